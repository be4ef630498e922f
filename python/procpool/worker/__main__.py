"""`python -m procpool.worker MODULE_OR_FILE`: runs a worker from the command line to its exit."""

from __future__ import annotations

import argparse
import sys

from .._version import __version__
from .loader import LoadError, WorkerFunction, find_functions, find_initializer, load_module
from .process import Program, exit_unloaded, exit_with, run, takes_pickles


def main() -> None:
    """Run a worker until the server shuts it down or goes away."""
    by_value = takes_pickles()
    arguments = _parse_arguments(by_value)
    if arguments.check:
        from .check import check

        sys.exit(check(arguments.module, arguments.init, arguments.call))
    run(Program() if arguments.module is None else _ModuleProgram(arguments.module, arguments.init), by_value)


def _parse_arguments(by_value: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m procpool.worker",
        description="Run the public functions of a Python module for a procpool server, which starts this program.",
        epilog="Example: procpool serve --processes 4 -- python -m procpool.worker my_functions.py",
    )
    parser.add_argument(
        "module",
        metavar="MODULE_OR_FILE",
        # Without one, there are the functions that callers send.
        nargs="?" if by_value else None,
        help="a module such as package.module, or a .py file",
    )
    parser.add_argument(
        "--init", metavar="FUNCTION", help="a function of the module to call once, before the first item"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="show the functions of the module, or call one in this process, without a server: for debugging",
    )
    parser.add_argument(
        "call", metavar="FUNCTION ARGUMENT", nargs="*", help="with --check: what to call, and its arguments as JSON"
    )
    parser.add_argument("--version", action="version", version=f"procpool {__version__}")
    arguments = parser.parse_args()
    if arguments.module is None and (arguments.init is not None or arguments.check):
        parser.error("--init and --check need the module of the function")
    if arguments.call and not arguments.check:
        parser.error("a function is called only with --check; without, the server says what runs")
    return arguments


class _ModuleProgram(Program):
    """The user's module, and what to run of it."""

    def __init__(self, name: str, initializer_name: str | None) -> None:
        self.name = name
        self._initializer_name = initializer_name

    def functions(self) -> list[WorkerFunction]:
        """Import the module and return its functions; end the process if that fails."""
        try:
            module = load_module(self.name)
            if self._initializer_name is not None:
                self.initializer = find_initializer(module, self._initializer_name)
            return list(find_functions(module, self._initializer_name).values())
        except LoadError as error:
            exit_with(str(error))
        except BaseException as error:
            exit_unloaded(f"can't import {self.name}", error)


if __name__ == "__main__":
    main()
