"""`procpool.aio.Pool`: the pool for asyncio. Every verb is awaited, or iterated with `async for`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from . import pool as _pool
from .results import AsyncResult, IMapIterator

T = TypeVar("T")


class Pool:
    """A pool whose verbs are coroutines: the twin of `procpool.Pool`, with the same arguments.

    To cancel the task that waits for a verb cancels the call: what has not begun never runs, what runs is told to end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Start a private server, or connect to one; the arguments are those of `procpool.Pool`."""
        self._pool = _pool.Pool(*args, **kwargs)

    async def apply(
        self, func: Callable[..., T] | str, args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None, **options: Any
    ) -> T:
        """Return `func(*args, **kwds)`, run by a worker."""
        return await _result(partial(self._pool.apply_async, func, args, kwds, **options))

    async def map(
        self, func: Callable[[Any], T] | str, iterable: Iterable[Any], chunksize: int | None = None, **options: Any
    ) -> list[T]:
        """Return `[func(item) for item in iterable]`, run by the workers."""
        return await _result(partial(self._pool.map_async, func, iterable, chunksize, **options))

    async def starmap(
        self, func: Callable[..., T] | str, iterable: Iterable[Iterable[Any]], chunksize: int | None = None, **options: Any
    ) -> list[T]:
        """Return `[func(*item) for item in iterable]`, run by the workers."""
        return await _result(partial(self._pool.starmap_async, func, iterable, chunksize, **options))

    def imap(self, func: Callable[[Any], T] | str, items: Iterable[Any] | AsyncIterable[Any], **options: Any) -> Results[T]:
        """Return an asynchronous iterator over `func(item)`, in the order of the items."""
        return Results(partial(self._pool.imap, func, **options), items)

    def imap_unordered(
        self, func: Callable[[Any], T] | str, items: Iterable[Any] | AsyncIterable[Any], **options: Any
    ) -> Results[T]:
        """As `imap`, with the results as they finish."""
        return Results(partial(self._pool.imap_unordered, func, **options), items)

    def istarmap(
        self, func: Callable[..., T] | str, items: Iterable[Any] | AsyncIterable[Any], **options: Any
    ) -> Results[T]:
        """As `imap`, over `func(*item)`."""
        return Results(partial(self._pool.istarmap, func, **options), items)

    def istarmap_unordered(
        self, func: Callable[..., T] | str, items: Iterable[Any] | AsyncIterable[Any], **options: Any
    ) -> Results[T]:
        """As `istarmap`, with the results as they finish."""
        return Results(partial(self._pool.istarmap_unordered, func, **options), items)

    async def close(self) -> None:
        """Take nothing new, and wait until everything has ended."""
        self._pool.close()
        await asyncio.to_thread(self._pool.join)

    async def terminate(self) -> None:
        """End at once."""
        await asyncio.to_thread(self._pool.terminate)

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.terminate()


async def _result(start: Callable[..., AsyncResult[T]]) -> T:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[T] = loop.create_future()

    def set_if_wanted(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not waiter.done():
            set_outcome(outcome)

    def later(set_outcome: Callable[[Any], None]) -> Callable[[Any], None]:
        def set_later(outcome: Any) -> None:
            loop.call_soon_threadsafe(set_if_wanted, set_outcome, outcome)

        return set_later

    def set_exception(error: BaseException) -> None:
        if isinstance(error, StopIteration):
            # A future refuses it. A coroutine that raises it ends so, too.
            stopped = RuntimeError("the function raised StopIteration")
            stopped.__cause__ = error
            error = stopped
        waiter.set_exception(error)

    result = start(callback=later(waiter.set_result), error_callback=later(set_exception))
    try:
        return await waiter
    finally:
        if not result.ready():
            result.cancel()


class Results(AsyncIterator[T]):
    """The results of a call as they come."""

    def __init__(self, start: Callable[..., IMapIterator[T]], items: Iterable[Any] | AsyncIterable[Any]) -> None:
        if isinstance(items, AsyncIterable):
            items = _pulled(items, asyncio.get_running_loop())
        self._iterator = start(items)

    def __aiter__(self) -> Results[T]:
        return self

    async def __anext__(self) -> T:
        try:
            if self._iterator.has_ready():
                return self._iterator.next()
            # StopIteration can't pass through a future.
            is_over, value = await asyncio.to_thread(self._next)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if is_over:
            raise StopAsyncIteration
        return value  # type: ignore[no-any-return]

    def _next(self) -> tuple[bool, Any]:
        try:
            return False, self._iterator.next()
        except StopIteration:
            return True, None

    async def aclose(self) -> None:
        """Cancel what is left."""
        self._iterator.close()


def _pulled(items: AsyncIterable[Any], loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    """Iterate on another thread over what comes on the loop, as it is wanted."""
    iterator = aiter(items)

    async def next_item() -> Any:
        return await anext(iterator)

    while True:
        try:
            item = asyncio.run_coroutine_threadsafe(next_item(), loop).result()
        except StopAsyncIteration:
            return
        yield item
