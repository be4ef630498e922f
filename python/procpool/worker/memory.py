"""Returns freed memory to the system.

The C library keeps what was freed, up to twice the largest block (so up to 64 MiB), for the next large item. While a
worker is idle, other processes have more use for it, and the server takes it for what the worker needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

LARGE_BYTES = 1 << 20
"""The size of an item or a result from which this is worth its cost."""


def give_memory_back() -> None:
    """Make the C library return unused memory."""
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    # Imported here, since most workers never have a large item.
    try:
        import ctypes

        return ctypes.CDLL(None).malloc_trim
    except (ImportError, OSError, AttributeError):
        # Another C library, without malloc_trim.
        return lambda _padding: None
