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
from types import FrameType

from .. import _context
from .._proto import worker_pb2
from .._version import __version__
from .channel import PROTOCOL_VERSION, Channel, ChannelClosedError, NotStartedByServerError
from .errors import one_line
from .loader import LoadError, WorkerFunction, find_functions, find_initializer, load_module
from .memory import give_memory_back
from .page import NoPage, ProgressPage
from .runner import Runner
from .session import Session, exit_after, exit_at_once

# A thread that waits for the interpreter gets it after this time. Python's own 5 ms would be the time that results
# and answers to the server wait while an item computes.
_SWITCH_INTERVAL_SECONDS = 0.0005

DUMP_SIGNAL = 16
"""The signal on which the stacks are dumped: SIGSTKFLT, which Linux does not use."""

_EXIT_LOAD_FAILED = 1
_EXIT_USAGE = 2


def main() -> None:
    """Run a worker until the server shuts it down or goes away."""
    arguments = _parse_arguments()
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        print("procpool.worker: needs the global interpreter lock; start Python with PYTHON_GIL=1", file=sys.stderr)
        sys.exit(_EXIT_USAGE)
    try:
        channel = Channel.open()
    except NotStartedByServerError as error:
        print(_how_to_start(arguments.module, error), file=sys.stderr)
        sys.exit(_EXIT_USAGE)
    try:
        _serve(channel, arguments.module, arguments.init)
    except ChannelClosedError:
        exit_at_once(0)
    except Exception as error:
        # Not sys.exit: threads of user code could keep the process alive, and the server waiting.
        exit_after(error)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m procpool.worker",
        description="Run the public functions of a Python module for a procpool server, which starts this program.",
        epilog="Example: procpool serve --processes 4 -- python -m procpool.worker my_functions.py",
    )
    parser.add_argument("module", metavar="MODULE_OR_FILE", help="a module such as package.module, or a .py file")
    parser.add_argument(
        "--init", metavar="FUNCTION", help="a function of the module to call once, before the first item"
    )
    parser.add_argument("--version", action="version", version=f"procpool {__version__}")
    return parser.parse_args()


def _how_to_start(module: str, error: NotStartedByServerError) -> str:
    return (
        f"procpool.worker: {error}\n"
        "A worker is started by the server, which gives it a socket:\n"
        f"    procpool serve --processes 4 -- python -m procpool.worker {module}"
    )


def _serve(channel: Channel, target: str, initializer_name: str | None) -> None:
    _prepare_process()
    welcome, descriptors = channel.receive_welcome()
    session = Session(channel, _map_page(descriptors.page, welcome.journal_bytes))
    _context.set_running(session)
    session.interrupter.install()
    can_dump = _register_dump(descriptors.dump_pipe)

    # From now on the process ends when the server does, however long the import takes. This thread holds the lock, so
    # that no Pong overtakes Hello.
    session.start_threads()
    initializer, functions = _load(target, initializer_name)
    session.send(hello=_hello(session, functions, can_dump))
    session.lock.release()
    if initializer is not None:
        _call_initializer(initializer)
    # Objects that exist now stay: the collector need not visit them again, nor copy their pages after a fork.
    gc.collect()
    gc.freeze()
    session.lock.acquire()
    session.send(ready=worker_pb2.Ready())
    session.lock.release()

    runner = Runner(session, functions)
    while (chunk := session.queue.get()) is not None:
        runner.run_chunk(chunk)
        # An idle worker keeps no memory of its last chunk.
        del chunk
        if runner.has_had_large and session.queue.empty():
            runner.has_had_large = False
            give_memory_back()


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


def _map_page(memory_fd: int | None, journal_bytes: int) -> ProgressPage:
    if memory_fd is None:
        return NoPage()
    try:
        return ProgressPage(memory_fd, journal_bytes) if journal_bytes else NoPage()
    except (OSError, ValueError) as error:
        print(f"procpool.worker: can't map the progress page, continuing without it: {error}", file=sys.stderr)
        return NoPage()
    finally:
        os.close(memory_fd)


def _register_dump(pipe_fd: int | None) -> bool:
    """Install a signal handler that writes the stacks of all threads to the pipe, even from C code; return whether it
    is.
    """
    if pipe_fd is None:
        return False
    # It does not need the interpreter lock, and the pipe does not block.
    faulthandler.register(DUMP_SIGNAL, file=pipe_fd, all_threads=True)
    return True


def _end_of_dump() -> str:
    """Return the end of a dump: the main thread comes last, and its outermost frame last of all."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    return f" in {frame.f_code.co_name}\n"


def _load(target: str, initializer_name: str | None):
    try:
        module = load_module(target)
        initializer = None if initializer_name is None else find_initializer(module, initializer_name)
        return initializer, find_functions(module, initializer_name)
    except LoadError as error:
        print(f"procpool.worker: {error}", file=sys.stderr)
    except BaseException as error:
        traceback.print_exc()
        print(f"procpool.worker: can't import {target}: {one_line(error)}", file=sys.stderr)
    _exit_unloaded()


def _call_initializer(initializer) -> None:
    try:
        initializer()
    except BaseException as error:
        traceback.print_exc()
        print(f"procpool.worker: the initialiser failed: {one_line(error)}", file=sys.stderr)
        _exit_unloaded()


def _exit_unloaded() -> None:
    sys.stdout.flush()
    # Not sys.exit: threads that the module started could keep the process alive, and the server waiting.
    os._exit(_EXIT_LOAD_FAILED)


def _hello(session: Session, functions: dict[str, WorkerFunction], can_dump: bool) -> worker_pb2.Hello:
    return worker_pb2.Hello(
        protocol_version=PROTOCOL_VERSION,
        sdk=f"procpool-python/{__version__} (Python {sys.version.split()[0]})",
        pid=os.getpid(),
        functions=[
            worker_pb2.Function(
                name=function.name,
                signature=function.signature,
                doc=function.doc,
                example=function.example,
                idempotent=function.idempotent,
            )
            for function in functions.values()
        ],
        uses_progress_page=session.page.is_shared,
        takes_common=True,
        dump_signal=DUMP_SIGNAL if can_dump else 0,
        dump_end=_end_of_dump() if can_dump else "",
    )


if __name__ == "__main__":
    main()
