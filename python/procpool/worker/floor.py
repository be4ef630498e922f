"""Who may touch the session: a lock that costs the main thread next to nothing.

The main thread takes and leaves the floor around every item, a million times a second; other threads want it now and
then. So the main thread only stores and reads two flags, and the others do all the waiting.

Why that is sound. Python runs the bytecodes of all threads in one order, so of two threads that each set a flag of
their own and then read the other's, at least one sees the other's set. The main thread clears `is_free`, then reads
`is_wanted`; another thread sets `is_wanted`, then reads `is_free`. Either the other thread sees that the floor is taken
and waits, or the main thread sees that somebody is there and makes way. This needs the global interpreter lock, which
the worker checks at its start.
"""

from __future__ import annotations

import threading
import time

_SHORTEST_WAIT_SECONDS = 20e-6
_LONGEST_WAIT_SECONDS = 1e-3


class Floor:
    """The right to touch the session. The main thread has it at first.

    Other threads use it as a context manager. The main thread takes it so, written out where every nanosecond counts::

        floor.is_free = False
        if floor.is_wanted:
            floor.make_way()
    """

    __slots__ = ("_others", "is_free", "is_wanted")

    def __init__(self) -> None:
        self.is_free = False
        self.is_wanted = False
        # One of the others at a time; held as long as is_wanted is true.
        self._others = threading.Lock()

    def leave(self) -> None:
        """Let others have the floor. For the main thread."""
        self.is_free = True

    def take(self) -> None:
        """Take the floor. For the main thread."""
        self.is_free = False
        if self.is_wanted:
            self.make_way()

    def make_way(self) -> None:
        """Let others have the floor first, then take it. For the main thread."""
        self.is_free = True
        with self._others:
            # While nobody else can be between his look at this flag and his deeds.
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
