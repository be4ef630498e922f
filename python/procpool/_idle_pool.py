"""Keeps the pool of the last joblib call for the next one: to start workers and to import scikit-learn in them takes seconds.

One pool at most is kept, and it ends when it has been idle for long. A pool that is in use is not here.
"""

from __future__ import annotations

import atexit
import os
import threading

from .pool import Pool

IDLE_SECONDS = 300.0


class IdlePool:
    """The place of one pool that nobody uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[object, Pool] | None = None
        self._timer: threading.Timer | None = None
        # A forked process has no threads that could hold it.
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.end)

    def take(self, key: object) -> Pool | None:
        """Return the kept pool, if it was made for the same key and its server is alive; end it otherwise."""
        kept = self._swap(None)
        if kept is None:
            return None
        if kept[0] == key and kept[1].is_alive():
            return kept[1]
        kept[1].terminate()
        return None

    def give(self, key: object, pool: Pool) -> None:
        """Keep a pool that has nothing to do, and end the one that was kept before."""
        previous = self._swap((key, pool))
        if previous is not None:
            previous[1].terminate()

    def end(self) -> None:
        """End the kept pool."""
        kept = self._swap(None)
        if kept is not None:
            kept[1].terminate()

    def _swap(self, kept: tuple[object, Pool] | None) -> tuple[object, Pool] | None:
        with self._lock:
            previous, self._kept = self._kept, kept
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if kept is not None:
                self._timer = threading.Timer(IDLE_SECONDS, self._end_if, [kept[1]])
                self._timer.daemon = True
                self._timer.start()
        return previous

    def _end_if(self, pool: Pool) -> None:
        """End this pool, unless it has been taken meanwhile."""
        with self._lock:
            is_kept = self._kept is not None and self._kept[1] is pool
            if is_kept:
                self._kept = self._timer = None
        if is_kept:
            pool.terminate()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        # The pool is the parent's: it is neither used nor ended here.
        self._inherited = self._kept
        self._kept = self._timer = None
