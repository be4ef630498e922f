"""`procpool.Pool`: `multiprocessing.Pool`, run by a procpool server."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from ._calls import Callbacks, Calls
from ._native import CallError as NativeCallError
from ._native import Client, ConnectError
from ._private_server import PrivateServer
from ._progress import Progress
from ._reference import FunctionPickles
from .errors import CallError, exception_of_call
from .results import AsyncResult, Feed, IMapIterator

T = TypeVar("T")
OnError = Literal["raise", "return"]

_PICKLE_TYPE = "application/x-python-pickle"
_EXIT_PATIENCE_SECONDS = 1.0
_RUN, _CLOSED, _TERMINATED = "RUN", "CLOSE", "TERMINATE"


class Pool:
    """A pool of processes that run functions, with the interface of `multiprocessing.Pool`.

    `Pool(4)` has a server and four workers of its own; they end with it. `Pool("host:50051")` uses a server that runs
    already, and `processes` and what is about workers is that server's business.

    Functions are sent by value, lambdas and closures included, to a server that allows it; a private one does. A text in
    the place of a function names one that the workers of a server have.

    Every verb that runs many items takes these, beyond what `multiprocessing` has:

    - `timeout`: how many seconds one item may run; its worker is replaced then.
    - `on_error`: "return" puts the exception of a failed item in its place, instead of raising the first one.
    - `max_attempts`: how often an item may run in all, if its worker dies.

    `map` and `starmap` take `progress`: True shows how far the call is on stderr, a function is called with how many items
    have ended, and of how many.
    """

    def __init__(
        self,
        processes: int | str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: object = None,
        *,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """Start a private server, or connect to one.

        Args:
            processes: How many workers; by default one for each CPU. Or the address of a server: `HOST:PORT`, a URL, or
                `unix:PATH`.
            initializer: Runs in each worker before its first item. Only for a private server.
            initargs: Its arguments.
            maxtasksperchild: A worker that has run as many items is replaced.
            context: Has no meaning here: workers are new processes. It is for code that gives one.
            settings: More settings of a private server, as `procpool serve` has them: `{"item_timeout": "10s"}`. A list
                stands for a setting that may be given several times.

        """
        self._server: PrivateServer | None = None
        if isinstance(processes, str):
            if initializer is not None or maxtasksperchild is not None or settings is not None:
                raise ValueError(
                    f"initializer, maxtasksperchild and settings are for a private server; the one at {processes} has "
                    "been started by somebody else"
                )
            address, self._processes = processes, 0
        else:
            self._processes = _checked(processes, initializer, maxtasksperchild)
            named = {name.replace("_", "-"): value for name, value in (settings or {}).items()}
            self._server = PrivateServer(self._processes, initializer, tuple(initargs), maxtasksperchild, named)
            address = self._server.address
        try:
            self._client = Client(address)
        except ConnectError as error:
            raise ValueError(str(error)) from None
        self._functions = FunctionPickles()
        self._calls = Calls()
        self._end = weakref.finalize(self, _end, self._calls, self._client, self._server)
        self._state = _RUN

    def num_workers(self) -> int:
        """Return the number of workers: of a server that is used by others, too, as many as it has now."""
        if self._processes:
            return self._processes
        try:
            return self._client.limits()["num_slots"]
        except NativeCallError as error:
            raise self.exception_of_call(error, is_by_value=False) from None

    def is_alive(self) -> bool:
        """Tell whether calls may be made: the pool is open, and its own server, if it has one, runs."""
        return self._state == _RUN and (self._server is None or self._server.exit_code() is None)

    # The verbs of multiprocessing.

    def apply(
        self,
        func: Callable[..., T] | str,
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        max_attempts: int = 0,
    ) -> T:
        """Return `func(*args, **kwds)`, run by a worker."""
        return self._calls.wait_for(self._apply(func, args, kwds, timeout, max_attempts))

    def apply_async(
        self,
        func: Callable[..., T] | str,
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        max_attempts: int = 0,
    ) -> AsyncResult[T]:
        """Begin to run `func(*args, **kwds)`; the callbacks are called on a thread of this process."""
        return self._apply(func, args, kwds, timeout, max_attempts, (callback, error_callback))

    def map(
        self,
        func: Callable[[Any], T] | str,
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        on_error: OnError = "raise",
        max_attempts: int = 0,
        progress: Progress = False,
    ) -> list[T]:
        """Return `[func(item) for item in iterable]`, run by the workers."""
        result = self._map(func, iterable, "map", chunksize, timeout, on_error, max_attempts)
        return self._calls.wait_for(result, progress)

    def map_async(
        self,
        func: Callable[[Any], T] | str,
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        on_error: OnError = "raise",
        max_attempts: int = 0,
    ) -> AsyncResult[list[T]]:
        """Begin what `map` does; the callbacks are called on a thread of this process."""
        callbacks = (callback, error_callback)
        return self._map(func, iterable, "map", chunksize, timeout, on_error, max_attempts, callbacks)

    def starmap(
        self,
        func: Callable[..., T] | str,
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        on_error: OnError = "raise",
        max_attempts: int = 0,
        progress: Progress = False,
    ) -> list[T]:
        """Return `[func(*item) for item in iterable]`, run by the workers."""
        result = self._map(func, iterable, "starmap", chunksize, timeout, on_error, max_attempts)
        return self._calls.wait_for(result, progress)

    def starmap_async(
        self,
        func: Callable[..., T] | str,
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        on_error: OnError = "raise",
        max_attempts: int = 0,
    ) -> AsyncResult[list[T]]:
        """Begin what `starmap` does; the callbacks are called on a thread of this process."""
        callbacks = (callback, error_callback)
        return self._map(func, iterable, "starmap", chunksize, timeout, on_error, max_attempts, callbacks)

    def imap(
        self,
        func: Callable[[Any], T] | str,
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        max_attempts: int = 0,
    ) -> IMapIterator[T]:
        """Return an iterator over `func(item)` for each item, in their order; the items may be endless.

        At most `buffersize` items are taken from the iterable beyond the results that were taken; by default as many as
        keep the workers busy.
        """
        return self._imap(func, iterable, "map", True, chunksize, buffersize, timeout, on_error, max_attempts)

    def imap_unordered(
        self,
        func: Callable[[Any], T] | str,
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        max_attempts: int = 0,
    ) -> IMapIterator[T]:
        """As `imap`, with the results as they finish."""
        return self._imap(func, iterable, "map", False, chunksize, buffersize, timeout, on_error, max_attempts)

    def istarmap(
        self,
        func: Callable[..., T] | str,
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        max_attempts: int = 0,
    ) -> IMapIterator[T]:
        """As `imap`, over `func(*item)`."""
        return self._imap(func, iterable, "starmap", True, chunksize, buffersize, timeout, on_error, max_attempts)

    def istarmap_unordered(
        self,
        func: Callable[..., T] | str,
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        on_error: OnError = "raise",
        max_attempts: int = 0,
    ) -> IMapIterator[T]:
        """As `istarmap`, with the results as they finish."""
        return self._imap(func, iterable, "starmap", False, chunksize, buffersize, timeout, on_error, max_attempts)

    # The end.

    def close(self) -> None:
        """Take nothing new. What was begun goes on, and `join` waits for it."""
        if self._state == _RUN:
            self._state = _CLOSED

    def terminate(self) -> None:
        """End at once: what has not begun never runs, what runs is killed, and whoever waits is told."""
        self._state = _TERMINATED
        self._end()

    def join(self) -> None:
        """Wait until everything has ended; `close` or `terminate` comes before it.

        Raises:
            ValueError: The pool was neither closed nor terminated.

        """
        if self._state == _RUN:
            raise ValueError("Pool is still running")
        if self._state == _CLOSED:
            self._calls.wait()
        self._end()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if getattr(self, "_state", _TERMINATED) == _RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __reduce__(self) -> str:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        where = f"pool_size={self._processes}" if self._server else "on a server"
        return f"<{type(self).__module__}.{type(self).__qualname__} state={self._state} {where}>"

    # How calls are made.

    def _check_running(self) -> None:
        if self._state != _RUN:
            raise ValueError("Pool not running")

    def _target(self, func: Callable[..., Any] | str, verb: str) -> dict[str, Any]:
        """Return what to run, for the items of a verb."""
        self._check_running()
        if isinstance(func, str):
            return {"function": func, "codec": "values", "star": verb != "map"}
        common = self._functions.dumps(func)
        return {"function": f"procpool:{verb}", "codec": "pickle", "common": common, "content_type": _PICKLE_TYPE}

    def _apply(
        self,
        func: Callable[..., T] | str,
        args: Iterable[Any],
        kwds: Mapping[str, Any] | None,
        timeout: float | None,
        max_attempts: int,
        callbacks: Callbacks | None = None,
    ) -> AsyncResult[T]:
        target = self._target(func, "apply")
        if isinstance(func, str):
            if kwds:
                raise ValueError(f"{func} is called by its name: it takes positional arguments only")
            item: Any = list(args)
        else:
            item = (tuple(args), dict(kwds or {}))
        options = {"item_timeout": timeout, "max_attempts": max_attempts, "fail_fast": True}
        return self._start([item], {**target, **options}, _first, False, callbacks)

    def _map(
        self,
        func: Callable[..., Any] | str,
        iterable: Iterable[Any],
        verb: str,
        chunksize: int | None,
        timeout: float | None,
        on_error: OnError,
        max_attempts: int,
        callbacks: Callbacks | None = None,
    ) -> AsyncResult[Any]:
        target = self._target(func, verb)
        items = iterable if isinstance(iterable, (list, tuple, range)) else list(iterable)
        options = _options(chunksize, timeout, on_error, max_attempts)
        return self._start(items, {**target, **options}, _all, on_error == "return", callbacks)

    def _imap(
        self,
        func: Callable[..., Any] | str,
        iterable: Iterable[Any],
        verb: str,
        is_ordered: bool,
        chunksize: int | None,
        buffersize: int | None,
        timeout: float | None,
        on_error: OnError,
        max_attempts: int,
    ) -> IMapIterator[Any]:
        target = self._target(func, verb)
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize must be at least 1, not {buffersize}")
        options = _options(chunksize, timeout, on_error, max_attempts) | {"fail_fast": False}
        items = iterable if isinstance(iterable, (list, tuple, range)) else iter(iterable)
        # Results that the iterator holds are a part of the buffer.
        max_batch = 0 if buffersize is None else max(1, buffersize // 4)
        window = 0 if buffersize is None else buffersize - max_batch + 1
        stream = self._client.stream(**target, **options, ordered=is_ordered, window=window)
        feed, returns_errors = Feed(stream, items), on_error == "return"
        is_by_value = not isinstance(func, str)
        iterator: IMapIterator[Any] = IMapIterator(
            self, stream, feed, is_ordered, returns_errors, is_by_value, max_batch
        )
        self._calls.iterators.add(iterator)
        return iterator

    def _start(
        self,
        items: Any,
        arguments: dict[str, Any],
        take: Callable[[list[Any]], T],
        returns_errors: bool,
        callbacks: Callbacks | None,
    ) -> AsyncResult[T]:
        """Start a call. `callbacks`: None if the caller waits for it."""
        is_by_value = arguments["codec"] == "pickle"
        try:
            if callbacks is None:
                return AsyncResult(self, self._client.start(items=items, **arguments), take, returns_errors, is_by_value)
            return self._calls.start(
                lambda queue, token: AsyncResult(
                    self,
                    self._client.start(items=items, queue=queue, token=token, **arguments),
                    take,
                    returns_errors,
                    is_by_value,
                    *callbacks,
                )
            )
        except NativeCallError as error:
            raise self.exception_of_call(error, is_by_value) from None

    def exception_of_call(self, error: NativeCallError, is_by_value: bool) -> BaseException:
        """Return the exception for a call without an answer, with what is known of the server. For the results of calls."""
        # The connections of a process that is killed break before it has an exit code.
        patience = _EXIT_PATIENCE_SECONDS if error.kind == "connection_lost" else 0.0
        code = self._server.exit_code(patience) if self._server is not None else None
        if code is not None:
            raised = CallError(f"the pool's server has ended with exit code {code}, see what it wrote to stderr: {error}")
            raised.reason = "SERVER_ENDED"
            return raised
        return exception_of_call(error, is_by_value)


def _checked(processes: int | None, initializer: object, maxtasksperchild: int | None) -> int:
    """Check the arguments of a private pool as `multiprocessing` does; return the number of workers."""
    count = processes if processes is not None else len(os.sched_getaffinity(0))
    if count < 1:
        raise ValueError("Number of processes must be at least 1")
    if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
        raise ValueError("maxtasksperchild must be a positive int or None")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    return count


def _options(chunksize: int | None, timeout: float | None, on_error: OnError, max_attempts: int) -> dict[str, Any]:
    if chunksize is not None and chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize}")
    if on_error not in ("raise", "return"):
        raise ValueError(f'on_error must be "raise" or "return", not {on_error!r}')
    return {
        "chunk_size": chunksize or 0,
        "item_timeout": timeout,
        "max_attempts": max_attempts,
        "fail_fast": on_error == "raise",
    }


def _first(values: list[Any]) -> Any:
    return values[0]


def _all(values: list[Any]) -> list[Any]:
    return values


def _end(calls: Calls, client: Client, server: PrivateServer | None) -> None:
    """End what a pool has, in a process that may not be the one that made it."""
    calls.cancel()
    client.close()
    if server is not None:
        server.stop()
