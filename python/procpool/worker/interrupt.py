"""Raises `Cancelled` in the function that runs, and in nothing else.

The reader thread sends the main thread a signal; the handler, which Python runs on the main thread, raises. The signal
also ends system calls that wait, which an exception set from another thread would not.

Why no other code is ever hit. Between the reader's decision and the handler the item may have ended, and the next begun:
so the handler asks whether the item that was meant is the one that runs. It is the main thread that answers, about
itself, so nothing changes meanwhile. What is left is that the main thread is in the worker's own frames, just after the
call, or (before Python 3.11) just before it: the handler sees in which frame it came, and raises in none of the runner's.
Just before the call the interruption is lost then, and the item ends as one that catches `Cancelled` does, by SIGTERM.
The frames that decode the item are none of the runner's: they may be interrupted like the function.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from .._context import Cancelled

# A real-time signal: programs and libraries leave the upper ones alone. Handlers do not survive exec.
CANCEL_SIGNAL = signal.SIGRTMAX - 3

_SIGNAL_INTERVAL_SECONDS = 0.02
_MAX_SIGNALS = 100

_RUNNER_FILE = str(Path(__file__).with_name("runner.py"))


def _signal_main_thread() -> None:
    main_thread = threading.main_thread().ident
    assert main_thread is not None, "it runs"
    signal.pthread_kill(main_thread, CANCEL_SIGNAL)


class Interrupter:
    """Interrupts an item at most once."""

    __slots__ = ("_is_running", "_target", "is_off")

    def __init__(self, is_running: Callable[[int], bool]) -> None:
        self._is_running = is_running
        self._target = 0
        self.is_off = False
        """The function has ended, though its item seems to run. For the main thread."""

    def install(self) -> None:
        """Take the signal. For the main thread."""
        signal.signal(CANCEL_SIGNAL, self._handle)

    def interrupt(self, sequence: int) -> None:
        """Have the item of this sequence number interrupted, if it still runs then. For whoever has the floor."""
        self._target = sequence
        _signal_main_thread()
        threading.Thread(target=self._signal_again, args=(sequence,), name="procpool-interrupter", daemon=True).start()

    def _signal_again(self, sequence: int) -> None:
        """Send the signal again until it was handled.

        One that comes after the interpreter's last look, and before the function is in the system call in which it waits, does
        not end that call.
        """
        for _ in range(_MAX_SIGNALS):
            time.sleep(_SIGNAL_INTERVAL_SECONDS)
            if self._target != sequence or not self._is_running(sequence):
                return
            _signal_main_thread()

    def _handle(self, _number: int, frame: FrameType | None) -> None:
        in_runner = frame is None or frame.f_code.co_filename == _RUNNER_FILE
        if self.is_off or in_runner or self._target == 0 or not self._is_running(self._target):
            return
        self._target = 0
        raise Cancelled
