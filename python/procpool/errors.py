"""What can go wrong with a call, as exceptions.

Three things, which are never mixed. The function raised: its own exception is raised again, or `RemoteError` if that
can't be had. The worker that ran the item was lost, or the item took too long: an `ItemError`. The pool has no answer
at all: a `CallError`.
"""

from __future__ import annotations

import multiprocessing

from ._native import CallError as NativeCallError
from ._native import Failure

__all__ = [
    "CallError",
    "FunctionNotFoundError",
    "ItemError",
    "ItemTimeoutError",
    "ProcpoolError",
    "RemoteError",
    "ResultTimeoutError",
    "TerminatedError",
    "WorkerCrashedError",
    "WorkerOutOfMemoryError",
]


class ProcpoolError(Exception):
    """What all exceptions of this package have in common."""


class ItemError(ProcpoolError):
    """One item has no result. The others are not concerned."""

    index: int = 0
    """The index of the item in the caller's list, from 0."""
    attempt: int = 0
    """Which execution of the item it was, from 1; 0 if that is not known."""


class RemoteError(ItemError):
    """The function raised what can't be raised here: an exception that can't be pickled, or of another language.

    Also for an item, a function or a result that can't be pickled or unpickled.
    """

    type_name: str = ""
    """The type of the exception, as its language writes it."""
    traceback: str = ""
    """The traceback, as its language prints it."""


class WorkerCrashedError(ItemError):
    """The worker died while it ran the item."""

    signal: int | None = None
    """The signal that killed it, if one did."""
    exit_code: int | None = None
    """The code that it exited with, if it did."""
    pid: int = 0
    """Its process id, on the machine of the server."""
    stderr_tail: str = ""
    """The end of what it wrote to stderr."""


class WorkerOutOfMemoryError(WorkerCrashedError):
    """The worker was killed for its memory while it ran the item."""


class ItemTimeoutError(ItemError, TimeoutError):
    """The item ran longer than it may."""

    stack: str = ""
    """What the worker did at that moment."""


class CallError(ProcpoolError):
    """The pool has no answer: it refused the call, gave it up, or can't be reached."""

    reason: str = ""
    """A word for programs, such as `QUEUE_FULL`; the table of errors in `docs/clients.md` has them all."""
    retryable: bool = False
    """Nothing has started, and the same call may succeed later."""


class FunctionNotFoundError(CallError):
    """No worker has the function."""


class ResultTimeoutError(multiprocessing.TimeoutError, TimeoutError):
    """The result was not there in time. The call goes on."""


class TerminatedError(ResultTimeoutError, ProcpoolError):
    """The pool was terminated, or the call cancelled, before there was a result.

    With `multiprocessing.Pool` one would wait for ever, or until one's timeout: so it is a `TimeoutError`.
    """


def exception_of_item(failure: Failure, is_by_value: bool) -> BaseException:
    """Return the exception for a failed item: the function's own, if it can be had, with the remote traceback as its
    cause.

    That comes as a pickle, which could do anything here. It is read only if the function was sent by value: then both
    ends trust each other.
    """
    if failure.kind == "raised":
        error = _rebuilt(failure.data) if is_by_value and failure.data else None
        if error is None:
            error = RemoteError(f"{failure.type}: {failure.message}" if failure.type else failure.message)
            error.type_name, error.traceback = failure.type, failure.traceback
            _set_place(error, failure)
        if failure.traceback:
            from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]

            error.__cause__ = RemoteTraceback(f'\n"""\n{failure.traceback}"""')
        return error
    if failure.cause is not None:
        # It can't be unpickled here.
        return failure.cause
    kinds: dict[str, type[ItemError]] = {
        "worker_crashed": WorkerCrashedError,
        "crash_limit": WorkerCrashedError,
        "worker_oom_killed": WorkerOutOfMemoryError,
        "item_timeout": ItemTimeoutError,
    }
    error = kinds.get(failure.kind, RemoteError)(failure.message)
    _set_place(error, failure)
    if isinstance(error, WorkerCrashedError):
        error.signal, error.exit_code, error.pid = failure.signal, failure.exit_code, failure.pid or 0
        error.stderr_tail = failure.stderr_tail
    elif isinstance(error, ItemTimeoutError):
        error.stack = failure.traceback
    return error


def _set_place(error: ItemError, failure: Failure) -> None:
    error.index, error.attempt = failure.index, failure.attempt or 0


def _rebuilt(data: bytes) -> BaseException | None:
    """Return the exception that a worker has pickled; None if it can't be unpickled here."""
    import pickle

    try:
        error = pickle.loads(data)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    return error if isinstance(error, BaseException) else None


def exception_of_call(error: NativeCallError, is_by_value: bool) -> BaseException:
    """Return the exception for a call without an answer, as the native module raises it; `is_by_value` as above."""
    if error.failure is not None:
        return exception_of_item(error.failure, is_by_value)
    if error.kind == "cancelled":
        return TerminatedError(error.message)
    if error.kind == "function_not_found":
        found: CallError = FunctionNotFoundError(error.message)
    else:
        found = CallError(error.message)
    found.reason, found.retryable = error.reason, error.retryable
    return found
