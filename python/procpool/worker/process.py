"""The process of a worker, from its start to its exit. What it runs comes from outside: a module (`__main__`), or what
callers send (`by_value`). It imports little: everybody waits for a worker that starts.
"""

from __future__ import annotations

import faulthandler
import gc
import io
import os
import signal
import sys

from .. import _native
from .._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

    from .loader import WorkerFunction

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


class Program:
    """What a worker runs: nothing but what comes with a call, unless a subclass has more."""

    name = ""
    """The module or file, for messages."""
    initializer: Callable[[], Any] | None = None
    """Runs once, before the first item."""

    def functions(self) -> list[WorkerFunction]:
        """Return the functions by name; end the process if that fails."""
        return []

    def load(self) -> list[WorkerFunction]:
        """Return the functions, when the worker is connected."""
        for variable in _CONNECTION_VARIABLES:
            # Only this worker may use them, and none of the programs that it starts.
            os.environ.pop(variable, None)
        return self.functions()

    def initialize(self) -> None:
        """Call the initialiser; end the process if it fails."""
        try:
            if self.initializer is not None:
                self.initializer()
        except BaseException as error:
            exit_unloaded("the initialiser failed", error)
        # Objects that exist now stay: the collector need not visit them again, nor copy their pages after a fork.
        gc.collect()
        gc.freeze()


def takes_pickles() -> bool:
    """Return whether the server lets this worker run what comes with a call. A server that it starts is asked anew."""
    return os.environ.pop("PROCPOOL_ALLOW_PICKLE", None) == "1"


def run(program: Program, by_value: bool) -> None:
    """Run a worker until the server shuts it down or goes away."""
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
        print(_how_to_start(program.name, error), file=sys.stderr)
        sys.exit(_EXIT_USAGE)
    except _native.WorkerError as error:
        print(f"procpool.worker: {error}", file=sys.stderr)
        _exit_after_error()
    except Exception:
        # Such as one that a signal handler of the user's raised while the worker waited.
        _print_traceback()
        _exit_after_error()


def _how_to_start(module: str, error: Exception) -> str:
    return (
        f"procpool.worker: {error}\n"
        "A worker is started by the server, which gives it a socket:\n"
        f"    procpool serve --processes 4 -- python -m procpool.worker {module}".rstrip()
    )


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


def exit_unloaded(what: str, error: BaseException) -> NoReturn:
    """End the process, as it can't run anything."""
    from .errors import one_line

    _print_traceback()
    exit_with(f"{what}: {one_line(error)}")


def exit_with(message: str) -> NoReturn:
    """End the process, as it can't run anything, with a message as the last line of its stderr."""
    print(f"procpool.worker: {message}", file=sys.stderr)
    sys.stdout.flush()
    # Not sys.exit: threads that the module started could keep the process alive, and the server waiting.
    os._exit(_EXIT_LOAD_FAILED)


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _exit_after_error() -> NoReturn:
    # As above.
    os._exit(_EXIT_PROTOCOL)
