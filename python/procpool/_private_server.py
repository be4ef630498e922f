"""The server of a pool that has one of its own: `procpool serve` on a Unix socket in a folder that only this user can open.

It ends with its pool, and with this process, whatever way that ends: it watches it.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from . import _pickling

_PROGRAM = "PROCPOOL_PROGRAM"
_START_SCRIPT = Path(__file__).with_name("_start_worker.py")
# It has one user, who has all items in memory and wants all results there: the limits are those of the formats.
_SETTINGS = {
    "max-message-bytes": "2047MiB",
    "max-request-bytes-in-flight": "4095MiB",
    "max-queued-bytes": "4095MiB",
    "max-result-bytes": "4095MiB",
    "max-queued-items": "1000000000",
    "pass-environment": "*",
    "kill-grace-period": "1s",
}
_STOP_PATIENCE_SECONDS = 10.0
_SIGNAL_INTERVAL_SECONDS = 0.05
# The kernel's limit for the path of a Unix socket, without the zero byte.
_MAX_SOCKET_PATH = 107


class PrivateServer:
    """A server and its workers, as child processes of this one."""

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_items_per_worker: int | None,
        settings: dict[str, object],
    ) -> None:
        program = _find_program()
        self._owner = os.getpid()
        self._is_stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        # What can't be found or pickled is said before anything is made.
        initialization = None if initializer is None else _pickling.dumps((initializer, tuple(initargs)))
        self._folder = _make_folder()
        socket = self._folder / "socket"
        self.address = f"unix:{socket}"
        startup = self._folder / "startup"
        # So that workers may use a Manager of this process.
        key = bytes(multiprocessing.current_process().authkey)
        startup.write_bytes(pickle.dumps((sys.path, key, initialization)))
        options: dict[str, object] = {
            "listen": self.address,
            "processes": str(processes),
            "exit-with": str(os.getpid()),
            "worker-output": "inherit",
            "log-level": "error",
            **_SETTINGS,
            **settings,
        }
        if max_items_per_worker is not None:
            options["max-items-per-worker"] = str(max_items_per_worker)
        worker = [sys.executable, *subprocess._args_from_interpreter_flags(), str(_START_SCRIPT), str(startup)]  # type: ignore[attr-defined]
        ready, write_end = _pipe()
        options["ready-fd"] = str(write_end)
        flags = [f"--{name}={value}" for name, values in options.items() for value in _listed(values)]
        command = [program, "serve", "--allow-pickle", *flags, "--", *worker]
        with os.fdopen(ready, "rb") as lines:
            try:
                try:
                    with _interrupted_later():
                        self._process = subprocess.Popen(
                            command,
                            stdin=subprocess.DEVNULL,
                            env=_environment(),
                            pass_fds=[write_end],
                            # Ctrl-C is for this process, which may go on.
                            process_group=0,
                        )
                finally:
                    os.close(write_end)
                is_ready = bool(lines.readline())
            except BaseException:
                # Such as Ctrl-C.
                self.stop()
                raise
        if not is_ready:
            code = self._process.wait()
            self._remove_folder()
            raise OSError(f"the pool's server could not start and has ended with exit code {code}: see stderr")

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None, "it has started"
        return self._process.pid

    def exit_code(self, timeout: float = 0.0) -> int | None:
        """Return the exit code of the server, if it ends within so many seconds although nobody has told it to."""
        if self._process is None or self._is_stopped or os.getpid() != self._owner:
            # A fork of this process can't wait for it.
            return None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """End the server and its workers at once. A process that was forked from this one's does nothing."""
        if os.getpid() != self._owner:
            return
        self._is_stopped = True
        deadline = time.monotonic() + _STOP_PATIENCE_SECONDS
        while self._process is not None and self._process.poll() is None:
            # The second one says that it is meant. Two that are sent at once may arrive as one.
            self._process.send_signal(signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_SIGNAL_INTERVAL_SECONDS)
        self._remove_folder()

    def _remove_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Keep Ctrl-C until the end of the block: within it a process would have been started that nobody knows of."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    kept: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda _number, frame: kept.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if kept:
        before(signal.SIGINT, kept[0])


def _environment() -> dict[str, str]:
    """Return what the server and its workers get: all but what would be a setting, such as `PROCPOOL_CONFIG`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PROCPOOL_") or name == _PROGRAM}


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _pipe() -> tuple[int, int]:
    """Return a pipe beyond the standard streams: a daemon may have closed those, and subprocess replaces them."""
    ends = os.pipe()
    copies = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends]
    for end in ends:
        os.close(end)
    return copies[0], copies[1]


def _make_folder() -> Path:
    """Make the folder of the socket, in /tmp if the usual place has too long a path."""
    folder = Path(tempfile.mkdtemp(prefix="procpool-"))
    if len(os.fsencode(folder / "socket")) <= _MAX_SOCKET_PATH:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="procpool-", dir="/tmp"))


def _find_program() -> str:
    """Return the program `procpool`: the one that came with this package, or the one on PATH."""
    named = os.environ.get(_PROGRAM)
    if named:
        return named
    installed = Path(sysconfig.get_path("scripts")) / "procpool"
    found = str(installed) if installed.is_file() else shutil.which("procpool")
    if found is None:
        raise FileNotFoundError(
            "the program procpool is neither beside this Python nor on PATH: install the package procpool with pip, or "
            "set PROCPOOL_PROGRAM to the path of the program"
        )
    return found
