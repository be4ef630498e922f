"""The running item, as a function sees it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import _native
from ._cancelled import Cancelled

__all__ = ["Cancelled", "CurrentItem", "call_metadata", "cancelled", "current"]


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
