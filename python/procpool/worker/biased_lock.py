"""A lock that costs the main thread next to nothing: it is biased towards it.

The main thread acquires and releases the lock around every item, a million times a second; other threads need it now
and then. So the main thread only stores and reads two flags, and the others do all the waiting.

Why this is sound. Python runs the bytecodes of all threads in one order, so of two threads that each set a flag of
their own and then read the other's, at least one sees the other's set. The main thread clears `is_free`, then reads
`is_wanted`; another thread sets `is_wanted`, then reads `is_free`. Either the other thread sees that the lock is taken
and waits, or the main thread sees that another thread wants it and yields. This needs the global interpreter lock,
which the worker checks at its start.
"""

from __future__ import annotations

import threading
import time

_SHORTEST_WAIT_SECONDS = 20e-6
_LONGEST_WAIT_SECONDS = 1e-3


class BiasedLock:
    """The lock of the session. The main thread holds it at first.

    Other threads use it as a context manager. The main thread acquires it as follows, inlined in the hot path::

        lock.is_free = False
        if lock.is_wanted:
            lock.yield_once()
    """

    __slots__ = ("_others", "is_free", "is_wanted")

    def __init__(self) -> None:
        self.is_free = False
        self.is_wanted = False
        # Held by one of the other threads, as long as is_wanted is true.
        self._others = threading.Lock()

    def release(self) -> None:
        """Release the lock. For the main thread."""
        self.is_free = True

    def acquire(self) -> None:
        """Acquire the lock. For the main thread."""
        self.is_free = False
        if self.is_wanted:
            self.yield_once()

    def yield_once(self) -> None:
        """Let another thread have the lock first, then acquire it. For the main thread."""
        self.is_free = True
        with self._others:
            # No other thread is between its read of this flag and its critical section.
            self.is_free = False

    def __enter__(self) -> None:
        self._others.acquire()
        self.is_wanted = True
        wait = _SHORTEST_WAIT_SECONDS
        while not self.is_free:
            # The main thread is between two items, which takes a microsecond, or it sends.
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def __exit__(self, *_exception: object) -> None:
        self.is_wanted = False
        self._others.release()
