"""Pickles of what the native module does not write itself: with cloudpickle, so also of lambdas, closures, and what the main
module defines.
"""

from __future__ import annotations

from typing import Any

_PROTOCOL = 5


def dumps(value: Any) -> bytes:
    """Return the pickle of an object."""
    # Imported here, since many workers never need it.
    import cloudpickle

    pickled: bytes = cloudpickle.dumps(value, protocol=_PROTOCOL)
    return pickled
