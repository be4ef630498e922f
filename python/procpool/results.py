"""What the verbs of a pool return before there are results: `AsyncResult` and `IMapIterator`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._native import CallError as NativeCallError
from ._native import Closed, Failure
from .errors import ResultTimeoutError, exception_of_item

if TYPE_CHECKING:
    from .pool import Pool

T = TypeVar("T")

_ITEMS_AT_A_TIME = 1000


class AsyncResult(Generic[T]):
    """The result of a call that goes on: what `apply_async`, `map_async` and `starmap_async` return.

    As `multiprocessing.pool.AsyncResult`, and with `cancel`.
    """

    def __init__(
        self,
        pool: Pool,
        call: Any,
        take: Callable[[list[Any]], T],
        returns_errors: bool,
        is_by_value: bool,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        # A pool does not end while somebody waits for it.
        self._pool = pool
        self._call = call
        self._take = take
        self._returns_errors = returns_errors
        self._is_by_value = is_by_value
        self._callback = callback
        self._error_callback = error_callback
        self._lock = threading.Lock()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._has_outcome = False
        # Whoever waits finds that the callback has run.
        self._called_back = threading.Event() if callback or error_callback else None

    def get(self, timeout: float | None = None) -> T:
        """Return the result, or raise what the function has raised.

        Raises:
            ResultTimeoutError: It is not there in time; it is a `multiprocessing.TimeoutError`.

        """
        self.wait(timeout)
        if not self.ready():
            raise ResultTimeoutError(f"there is no result after {timeout} s; the call goes on")
        self._settle()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until there is a result, or for so many seconds."""
        if self._called_back is None:
            self._call.wait(timeout)
        elif not self._called_back.is_set():
            # It raises in a fork of the process that made the call, where nobody calls back.
            self._call.ready()
            self._called_back.wait(timeout)

    def ready(self) -> bool:
        """Tell whether the call has ended."""
        return self._call.ready() if self._called_back is None else self._called_back.is_set()

    def successful(self) -> bool:
        """Tell whether the call has ended without an exception.

        Raises:
            ValueError: It has not ended.

        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        self._settle()
        return self._error is None

    def progress(self) -> tuple[int, int]:
        """Return how many items have ended, as far as is known here, and how many there are."""
        return self._call.num_received(), self._call.num_items()

    def cancel(self) -> None:
        """Give the call up: what has not begun never runs, and what runs is told to end. `get` raises then."""
        self._call.cancel()

    def _settle(self) -> None:
        """Take the outcome of a call that has ended."""
        with self._lock:
            if self._has_outcome:
                return
            try:
                values, failures = self._call.result()
                if failures and not self._returns_errors:
                    # A result that can't be unpickled here: the server knows of no failure.
                    self._error = exception_of_item(failures[0], self._is_by_value)
                else:
                    for failure in failures:
                        values[failure.index] = exception_of_item(failure, self._is_by_value)
                    self._value = self._take(values)
            except NativeCallError as error:
                self._error = self._pool.exception_of_call(error, self._is_by_value)
            except KeyboardInterrupt:
                # Ctrl-C while a large result is unpickled: the next one who asks may have it.
                raise
            except BaseException as error:
                # Whatever unpickling a result has raised, such as SystemExit.
                self._error = error
            self._has_outcome = True

    def deliver(self) -> None:
        """Call back; on the thread that is there for it."""
        if self._called_back is None:
            return
        try:
            self._settle()
            if self._error is None and self._callback is not None:
                self._callback(self._value)  # type: ignore[arg-type]
            elif self._error is not None and self._error_callback is not None:
                self._error_callback(self._error)
        finally:
            self._called_back.set()


MapResult = AsyncResult
"""The name that `multiprocessing.pool` has for what `map_async` returns."""


class IMapIterator(Iterator[T]):
    """The results of a call as they come: what `imap` and its relatives return.

    As `multiprocessing.pool.IMapIterator`. The pool runs a bounded number of items ahead of it; to drop or to `close` it
    cancels the rest.
    """

    def __init__(
        self,
        pool: Pool,
        stream: Any,
        feed: Feed,
        is_ordered: bool,
        returns_errors: bool,
        is_by_value: bool,
        max_batch: int,
    ) -> None:
        self._pool = pool
        self._stream = stream
        self._is_ordered = is_ordered
        self._returns_errors = returns_errors
        self._is_by_value = is_by_value
        # What is here already counts as taken: so it is not much.
        self._max_batch = max_batch
        self._feed = feed
        self._lock = threading.Lock()
        # The results that are here, the next one last.
        self._ready: list[Any] = []
        # What is raised behind the results, before StopIteration; None: that is not known yet.
        self._ends: list[BaseException] | None = None

    def __del__(self) -> None:
        # The thread that feeds the stream keeps it while it waits in its input.
        self._stream.cancel()

    def __iter__(self) -> IMapIterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """Return the next result, or raise what the function has raised for it; the one after it comes then.

        Raises:
            ResultTimeoutError: It is not there after so many seconds.
            StopIteration: There are no more.

        """
        while True:
            try:
                value = self._ready.pop()
                break
            except IndexError:
                # Another thread may have taken it. What is raised below does not come of this.
                pass
            self._read(timeout)
        if not isinstance(value, Failure):
            return value  # type: ignore[no-any-return]
        error = exception_of_item(value, self._is_by_value)
        if self._returns_errors:
            return error  # type: ignore[return-value]
        raise error

    def has_ready(self) -> bool:
        """Tell whether the next result is here."""
        return bool(self._ready)

    def close(self) -> None:
        """Cancel what is left: it never runs, and what runs is told to end."""
        self._stream.cancel()
        with self._lock:
            self._ready, self._ends = [], []

    def cancel(self) -> None:
        """As `close`, but whoever asks for more is told that the pool has ended."""
        self._stream.cancel()

    def _read(self, timeout: float | None) -> None:
        """Wait for more results, unless another thread has got some meanwhile."""
        with self._lock:
            if not self._ready:
                self._ready = self._next_batch(timeout)[::-1]

    def _next_batch(self, timeout: float | None) -> list[Any]:
        if self._ends is not None:
            raise self._ends.pop(0) if self._ends else StopIteration
        try:
            batch = self._stream.next(timeout, self._max_batch)
        except TimeoutError:
            raise ResultTimeoutError(f"there is no result after {timeout} s") from None
        except NativeCallError as error:
            self._ends = []
            raise self._pool.exception_of_call(error, self._is_by_value) from None
        if batch is None:
            # What the input has raised comes after the results of what came before it.
            self._ends = [] if self._feed.error is None else [self._feed.error]
            return self._next_batch(timeout)
        return batch if self._is_ordered else [value for _, value in batch]

    def drain(self) -> None:
        """Wait for all results, and keep them: nobody can get more from a pool that has ended."""
        with self._lock:
            kept = self._ready[::-1]
            ends: list[BaseException] = []
            try:
                while True:
                    kept += self._next_batch(None)
            except StopIteration:
                pass
            except Exception as error:
                ends.append(error)
            self._ready, self._ends = kept[::-1], ends


class Feed:
    """Feeds a stream with the items of an iterable, on a thread of its own: the iterable may wait for ever.

    It has no part in the iterator of the results, so that this can be dropped.
    """

    def __init__(self, stream: Any, items: Iterator[Any] | list[Any] | tuple[Any, ...] | range) -> None:
        self.error: BaseException | None = None
        """What the iterable has raised."""
        self._stream = stream
        # A daemon: at the end of this process it may wait in the iterable.
        threading.Thread(target=self._send, args=(items,), name="procpool-feed", daemon=True).start()

    def _send(self, items: Iterator[Any] | list[Any] | tuple[Any, ...] | range) -> None:
        stream = self._stream
        try:
            if isinstance(items, (list, tuple, range)):
                for start in range(0, len(items), _ITEMS_AT_A_TIME):
                    stream.send_many(list(items[start : start + _ITEMS_AT_A_TIME]))
            else:
                # No item is taken before there is room for it.
                while True:
                    for _ in range(stream.room()):
                        stream.send(next(items))
        except StopIteration:
            stream.finish()
        except Closed:
            # Nobody wants more.
            return
        except BaseException as error:
            self.error = error
            stream.fail()
        else:
            stream.finish()
