"""`procpool.Executor`: a `concurrent.futures.Executor` over a `Pool`."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any, TypeVar

from .pool import Pool
from .results import AsyncResult

T = TypeVar("T")

# Of executors. A pool is here until what it runs has ended, even if nobody has its executor any more.
_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _finish() -> None:
    """Wait, at the end of the program, for what executors run: as those of `concurrent.futures` do."""
    for pool in list(_pools):
        pool.close()
        pool.join()


# `concurrent.futures` uses it, too: `atexit` would be after the end of threads that are not daemons.
threading._register_atexit(_finish)  # type: ignore[attr-defined]


class Future(futures.Future[T]):
    """A future whose `cancel` stops what runs, too."""

    def __init__(self) -> None:
        super().__init__()
        self._result_of_call: AsyncResult[T] | None = None

    def cancel(self) -> bool:
        """Give the call up; what runs of it is told to end. Return False if it has ended before."""
        is_cancelled = super().cancel()
        if is_cancelled and self._result_of_call is not None:
            self._result_of_call.cancel()
        return is_cancelled


class Executor(futures.Executor):
    """An executor whose workers are those of a procpool server: its own, or one that runs already.

    As `concurrent.futures.ProcessPoolExecutor`; but functions may be lambdas, a worker that dies fails its own future
    only, and what runs can be cancelled. So it is for `asyncio`'s `run_in_executor`, for dask, and for whoever takes an
    executor.
    """

    def __init__(
        self,
        max_workers: int | str | None = None,
        mp_context: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        settings: dict[str, object] | None = None,
    ) -> None:
        """Start a private server, or connect to one; the arguments are those of `Pool`."""
        if isinstance(max_workers, int) and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._pool = Pool(max_workers, initializer, initargs, max_tasks_per_child, mp_context, settings=settings)
        # dask divides its work by it.
        self._max_workers = self._pool.num_workers()
        _pools.add(self._pool)
        self._lock = threading.Lock()
        self._futures: set[futures.Future[Any]] = set()
        self._is_shut_down = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Begin to run `fn(*args, **kwargs)`."""
        future: Future[T] = Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._futures.add(future)
        try:
            result = self._pool.apply_async(fn, args, kwargs, *_callbacks(future))
        except BaseException:
            self._forget(future)
            raise
        future._result_of_call = result
        future.add_done_callback(self._forget)
        # It may have been cancelled by who saw it among the futures of the executor.
        if future.cancelled():
            result.cancel()
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator over `fn(*items)` for the items of the iterables, in their order.

        The iterables are read as results are taken, at most `buffersize` items ahead, so they may be endless.

        Raises:
            TimeoutError: A result is not there `timeout` seconds after this call.

        """
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
        deadline = None if timeout is None else time.monotonic() + timeout
        results = self._pool.istarmap(fn, zip(*iterables, strict=False), chunksize, buffersize=buffersize)

        def take() -> Iterator[T]:
            try:
                while True:
                    yield results.next(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except StopIteration:
                return
            finally:
                results.close()

        return take()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing new; with `cancel_futures`, give up what has not ended."""
        with self._lock:
            was_shut_down, self._is_shut_down = self._is_shut_down, True
            pending = list(self._futures)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if was_shut_down:
            return
        self._pool.close()
        if wait:
            self._pool.join()
        else:
            threading.Thread(target=self._pool.join, name="procpool-shutdown").start()

    def _forget(self, future: futures.Future[Any]) -> None:
        with self._lock:
            self._futures.discard(future)


def _callbacks(future: Future[Any]) -> tuple[Callable[[Any], None], Callable[[BaseException], None]]:
    """Return what completes a future, unless somebody has cancelled it."""

    def succeed(value: Any) -> None:
        if future.set_running_or_notify_cancel():
            future.set_result(value)

    def fail(error: BaseException) -> None:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)

    return succeed, fail
