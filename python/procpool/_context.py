"""The running item, as a function sees it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import _native


class Cancelled(BaseException):
    """Nobody waits for the result any more: the caller went away, or the item timed out.

    It is raised in the running function, on the main thread, between two of its bytecodes; a wait such as `time.sleep`
    ends for it. Functions may raise it too. It is no `Exception`, for the reason that `asyncio.CancelledError` is none:
    code that catches those, to go on or to try again, shall let it pass.
    """

    # The name under which users import it, which callers see in error messages.
    __module__ = "procpool"


def call_metadata() -> list[tuple[str, str]]:
    """Return the ``metadata=`` for calls that a function makes itself to any procpool server.

    A server knows by it that a function calls its own pool, and refuses that: the function would hold a slot while it
    waits for one. Empty outside of a worker.
    """
    pool = os.environ.get("PROCPOOL_POOL")
    return [("procpool-caller-pool", pool)] if pool else []


@dataclass(frozen=True)
class CurrentItem:
    """The running item."""

    index: int
    """Its index in the caller's list, from 0."""
    attempt: int
    """Which execution of this item this is, from 1."""
    chunk: int
    """The number of its chunk; unique in the life of the server."""
    function: str
    """The name by which the function was called."""
    traceparent: str
    """The caller's W3C trace context; empty if there is none."""
    tracestate: str
    """The rest of the caller's trace context."""


def current() -> CurrentItem | None:
    """Return the running item; None outside of one, such as when the module is used without a worker."""
    parts = _native.current()
    return None if parts is None else CurrentItem(*parts)


def cancelled() -> bool:
    """Return whether the running item is cancelled: its caller went away, or it timed out.

    `Cancelled` has been raised in the function then, once. This is for what that does not reach: other threads, and
    code that caught it.
    """
    return _native.cancelled()
