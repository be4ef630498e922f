"""Raises `Cancelled` in the running function, and nowhere else.

The reader thread sends the main thread a signal; the handler, which Python runs on the main thread, raises. The signal
also interrupts blocking system calls, which an exception set from another thread would not.

Why no other code is hit. Between the reader's decision and the handler the item may have ended, and the next begun: so
the handler checks whether the intended item is the running one. It runs on the main thread, so this cannot change
meanwhile. The remaining case is that the main thread is in the worker's own frames, just after the call, or (before
Python 3.11) just before it: the handler looks at the frame, and never raises in one of the runner's. Just before the
call the interruption is then lost, and the item ends like one that catches `Cancelled`, by SIGTERM. The frames that
decode the item are not the runner's: they can be interrupted like the function.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from .._context import Cancelled

# A real-time signal: programs and libraries rarely use the upper ones. Handlers do not survive exec.
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
        """The function has ended, although its item still counts as running. For the main thread."""

    def install(self) -> None:
        """Install the signal handler. For the main thread."""
        signal.signal(CANCEL_SIGNAL, self._handle)

    def interrupt(self, sequence: int) -> None:
        """Interrupt the item with this sequence number, if it still runs then. The caller holds the lock."""
        self._target = sequence
        _signal_main_thread()
        threading.Thread(target=self._signal_again, args=(sequence,), name="procpool-interrupter", daemon=True).start()

    def _signal_again(self, sequence: int) -> None:
        """Repeat the signal until it is handled.

        A signal that arrives after the interpreter's last check, but before a blocking system call, does not interrupt
        that call.
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
