"""What a function can ask about the item that it works on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol


class Cancelled(BaseException):
    """Nobody waits for the result any more: the caller hung up, or the item's time is over.

    It is raised in the function that runs, on the main thread, between two of its bytecodes; a wait such as
    `time.sleep` ends for it. Functions may raise it too. It is no `Exception`, for the reason that
    `asyncio.CancelledError` is none: code that catches those, to go on or to try again, shall let it pass.
    """

    # As users import it, and so what callers read in error messages.
    __module__ = "procpool"


def call_metadata() -> list[tuple[str, str]]:
    """Returns what a function passes as ``metadata=`` to the calls that it makes itself, to any procpool server.

    A server knows by it that a function calls its own pool, and refuses that: the function would hold a slot while it waits
    for one. Empty outside of a worker.
    """
    pool = os.environ.get("PROCPOOL_POOL")
    return [("procpool-caller-pool", pool)] if pool else []


@dataclass(frozen=True)
class CurrentItem:
    """The item that runs."""

    index: int
    """Its index in the caller's list, from 0."""
    attempt: int
    """Which execution of this item this is, from 1."""
    chunk: int
    """The number of the chunk that it came in; unique in the life of the server."""
    function: str
    """The name that the caller called."""
    traceparent: str
    """The caller's W3C trace context; empty if there is none."""
    tracestate: str
    """The rest of the caller's trace context."""


class _Running(Protocol):
    def current(self) -> CurrentItem | None: ...

    def cancelled(self) -> bool: ...


# Set once, by the worker, before it runs anything; a process has one worker at most.
_running: _Running | None = None


def set_running(running: _Running) -> None:
    """Says whom to ask. For the worker alone."""
    global _running
    _running = running


def current() -> CurrentItem | None:
    """Return the item that runs; None outside of one, such as when the module is used without a worker."""
    return None if _running is None else _running.current()


def cancelled() -> bool:
    """Tell whether nobody waits for the result of the item that runs: its caller hung up, or its time is over.

    `Cancelled` has been raised in the function then, once. This is for what that does not reach: other threads, and code
    that caught it.
    """
    return _running is not None and _running.cancelled()
