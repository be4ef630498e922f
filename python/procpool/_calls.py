"""The calls of a pool that have not ended: who waits for all of them finds them here, and one thread calls back."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from ._native import CompletionQueue
from ._progress import Progress, reporter
from .results import AsyncResult, IMapIterator

T = TypeVar("T")
_PATIENCE_SECONDS = 5.0
_REPORT_INTERVAL_SECONDS = 0.1
_GONE = object()
Callbacks = tuple[Callable[[Any], object] | None, Callable[[BaseException], object] | None]


class Calls:
    """What has begun in one pool."""

    def __init__(self) -> None:
        self.iterators: weakref.WeakSet[IMapIterator[Any]] = weakref.WeakSet()
        self._changed = threading.Condition()
        # None while it is being started: it may have ended before it is known here.
        self._by_token: dict[int, AsyncResult[Any] | None] = {}
        self._waited_for: set[AsyncResult[Any]] = set()
        self._last_token = 0
        self._queue: CompletionQueue | None = None
        self._thread: threading.Thread | None = None

    def wait_for(self, result: AsyncResult[T], progress: Progress = False) -> T:
        """Return the result of a call that nobody else knows of, and report how far it is meanwhile."""
        self._waited_for.add(result)
        try:
            if progress:
                with reporter(progress) as report:
                    has_ended = False
                    while not has_ended:
                        result.wait(_REPORT_INTERVAL_SECONDS)
                        has_ended = result.ready()
                        report(*result.progress())
            return result.get()
        except BaseException:
            # After Ctrl-C nobody wants it.
            result.cancel()
            raise
        finally:
            self._waited_for.discard(result)

    def start(self, start: Callable[[CompletionQueue, int], AsyncResult[T]]) -> AsyncResult[T]:
        """Start a call whose end is noticed whoever waits for it. `start` is given where it says so, and as what."""
        with self._changed:
            self._last_token += 1
            token = self._last_token
            self._by_token[token] = None
            if self._queue is None:
                self._queue = CompletionQueue()
                self._thread = threading.Thread(target=self._run, args=(self._queue,), name="procpool-calls", daemon=True)
                self._thread.start()
        result: AsyncResult[T] | None = None
        try:
            result = start(self._queue, token)
            return result
        finally:
            with self._changed:
                if result is None:
                    # It was not started, or nobody can have it, such as after Ctrl-C.
                    del self._by_token[token]
                else:
                    self._by_token[token] = result
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait until all have ended; what an iterator would return is kept for whoever asks it later.

        Raises:
            RuntimeError: A callback would wait for itself.

        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a callback can't join its pool: it would wait for itself; call close() or terminate() there")
        for iterator in list(self.iterators):
            iterator.drain()
        for result in list(self._waited_for):
            result.wait()
        with self._changed:
            self._changed.wait_for(lambda: not self._by_token)

    def cancel(self) -> None:
        """End all, and the thread when it has called back who waits for that."""
        for iterator in list(self.iterators):
            iterator.cancel()
        with self._changed:
            results = [*filter(None, self._by_token.values()), *self._waited_for]
        for result in results:
            result.cancel()
        if self._queue is None or self._thread is None:
            return
        if self._thread is not threading.current_thread():
            with self._changed:
                has_called_back = self._changed.wait_for(lambda: not self._by_token, _PATIENCE_SECONDS)
            self._queue.close()
            if has_called_back:
                self._thread.join(_PATIENCE_SECONDS)
        else:
            # A callback ends the pool: what is behind it in the queue is called back after it.
            self._queue.close()

    def _run(self, queue: CompletionQueue) -> None:
        while (token := queue.get(None)) is not None:
            with self._changed:
                self._changed.wait_for(lambda: self._by_token.get(token, _GONE) is not None)
                result = self._by_token.get(token)
            if result is None:
                continue
            try:
                result.deliver()
            except BaseException:
                # As multiprocessing: what a callback raises is printed, and no other suffers. SystemExit would end this
                # thread, and nobody would be called back any more.
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            finally:
                with self._changed:
                    del self._by_token[token]
                    self._changed.notify_all()
