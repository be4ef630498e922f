"""Gives memory back to the system.

The C library keeps what was freed, up to twice the largest block (so up to 64 MiB), for the next large item. While a worker
is idle, other processes have more use for it, and the server takes it for what the worker needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

LARGE_BYTES = 1 << 20
"""What an item or a result must have for it to be worth while."""


def give_memory_back() -> None:
    """Have the C library return what it holds and nobody uses."""
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    # Only here: most workers never see a large item, and need not load this.
    try:
        import ctypes

        return ctypes.CDLL(None).malloc_trim
    except (ImportError, OSError, AttributeError):
        # Another C library, which has its own ways.
        return lambda _padding: None
