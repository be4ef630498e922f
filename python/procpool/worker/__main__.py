"""`python -m procpool.worker MODULE_OR_FILE`: runs a worker from the command line to its exit."""

from __future__ import annotations

import argparse
import faulthandler
import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from .. import _native
from .._version import __version__
from .errors import one_line
from .loader import LoadError, WorkerFunction, find_functions, find_initializer, load_module

# A thread that waits for the interpreter gets it after this time. Python's own 5 ms would be the time that results
# and answers to the server wait while an item computes.
_SWITCH_INTERVAL_SECONDS = 0.0005

DUMP_SIGNAL = 16
"""The signal on which the stacks are dumped: SIGSTKFLT, which Linux does not use."""

_CONNECTION_VARIABLES = ("PROCPOOL_FD", "PROCPOOL_SOCKET")

_EXIT_LOAD_FAILED = 1
_EXIT_USAGE = 2
_EXIT_PROTOCOL = 70
"""After a protocol error of the server, or a bug of this worker (EX_SOFTWARE)."""


def main() -> None:
    """Run a worker until the server shuts it down or goes away."""
    by_value = _takes_pickles()
    arguments = _parse_arguments(by_value)
    if arguments.check:
        from .check import check

        sys.exit(check(arguments.module, arguments.init, arguments.call))
    _run(_Program(arguments.module, arguments.init), by_value)


def run_by_value(initialization: bytes | None) -> None:
    """Run a worker of a private pool: what it runs comes with each call.

    `initialization` is the pickle of a function and a tuple of arguments, to call before the first item.
    """
    _takes_pickles()
    program = _Program(None, None)
    if initialization is not None:
        program.initializer = lambda: _call_pickled(initialization)
    _run(program, by_value=True)


def _takes_pickles() -> bool:
    """Return whether the server lets this worker run what comes with a call. A server that it starts is asked anew."""
    return os.environ.pop("PROCPOOL_ALLOW_PICKLE", None) == "1"


def _call_pickled(initialization: bytes) -> None:
    function, arguments = _native.loads(initialization)
    function(*arguments)


def _run(program: _Program, by_value: bool) -> None:
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        print("procpool.worker: needs the global interpreter lock; start Python with PYTHON_GIL=1", file=sys.stderr)
        sys.exit(_EXIT_USAGE)
    _prepare_process()
    try:
        _native.run_worker(
            sdk=f"procpool-python/{__version__} (Python {sys.version.split()[0]})",
            load=program.load,
            initialize=program.initialize,
            register_dump=_register_dump,
            by_value=by_value,
        )
    except _native.NotStartedError as error:
        print(_how_to_start(program.target, error), file=sys.stderr)
        sys.exit(_EXIT_USAGE)
    except _native.WorkerError as error:
        print(f"procpool.worker: {error}", file=sys.stderr)
        _exit_after_error()
    except Exception:
        # Such as one that a signal handler of the user's raised while the worker waited.
        traceback.print_exc()
        _exit_after_error()


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


def _how_to_start(module: str | None, error: Exception) -> str:
    return (
        f"procpool.worker: {error}\n"
        "A worker is started by the server, which gives it a socket:\n"
        f"    procpool serve --processes 4 -- python -m procpool.worker {module or ''}".rstrip()
    )


class _Program:
    """The user's module, and what to run of it."""

    def __init__(self, target: str | None, initializer_name: str | None) -> None:
        self.target = target
        self._initializer_name = initializer_name
        self.initializer: Callable[[], Any] | None = None

    def load(self) -> list[WorkerFunction]:
        """Import the module and return its functions; end the process if that fails."""
        for variable in _CONNECTION_VARIABLES:
            # Only this worker may use them, and none of the programs that it starts.
            os.environ.pop(variable, None)
        if self.target is None:
            return []
        try:
            module = load_module(self.target)
            if self._initializer_name is not None:
                self.initializer = find_initializer(module, self._initializer_name)
            return list(find_functions(module, self._initializer_name).values())
        except LoadError as error:
            print(f"procpool.worker: {error}", file=sys.stderr)
        except BaseException as error:
            traceback.print_exc()
            print(f"procpool.worker: can't import {self.target}: {one_line(error)}", file=sys.stderr)
        _exit_unloaded()

    def initialize(self) -> None:
        """Call the initialiser; end the process if it fails."""
        try:
            if self.initializer is not None:
                self.initializer()
        except BaseException as error:
            traceback.print_exc()
            print(f"procpool.worker: the initialiser failed: {one_line(error)}", file=sys.stderr)
            _exit_unloaded()
        # Objects that exist now stay: the collector need not visit them again, nor copy their pages after a fork.
        gc.collect()
        gc.freeze()


def _prepare_process() -> None:
    faulthandler.enable()
    # Before the import, so that a module can change it.
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    # Ctrl-C is for the server, which ends its workers. A handler and not SIG_IGN, which programs started by user code
    # would inherit.
    signal.signal(signal.SIGINT, _ignore_signal)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The server logs what is printed, line by line, as it is printed.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    pass


def _register_dump(pipe_fd: int) -> tuple[int, str]:
    """Install a signal handler that writes the stacks of all threads to the pipe, even from C code; return the signal
    and how a dump ends.
    """
    # It does not need the interpreter lock, and the pipe does not block.
    faulthandler.register(DUMP_SIGNAL, file=pipe_fd, all_threads=True)
    return DUMP_SIGNAL, _end_of_dump()


def _end_of_dump() -> str:
    """Return the end of a dump: the main thread comes last, and its outermost frame last of all."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    return f" in {frame.f_code.co_name}\n"


def _exit_unloaded() -> NoReturn:
    sys.stdout.flush()
    # Not sys.exit: threads that the module started could keep the process alive, and the server waiting.
    os._exit(_EXIT_LOAD_FAILED)


def _exit_after_error() -> NoReturn:
    # As above.
    os._exit(_EXIT_PROTOCOL)


if __name__ == "__main__":
    main()
