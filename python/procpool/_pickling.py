"""Pickles of what the native module does not write itself: by `pickle` where that can be, else by cloudpickle.

That takes four times as long, and also takes lambdas, closures, and what the main module defines.
"""

from __future__ import annotations

import pickle
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROTOCOL = 5
_LARGE_BYTES = 1 << 20


def dumps(value: Any) -> bytes:
    """Return the pickle of an object."""
    if not _is_for_cloudpickle(value):
        try:
            pickled = pickle.dumps(value, protocol=_PROTOCOL)
        except Exception:  # A lambda, or what holds one; cloudpickle says what is wrong with others.
            return _dumps_whole(value)
        # The main module is another one where this is read.
        if b"__main__" not in pickled:
            return pickled
    return _dumps_whole(value)


def _is_for_cloudpickle(value: Any) -> bool:
    """Tell whether cloudpickle is the quicker way, or the one that the user has asked for."""
    if getattr(value, "__module__", None) == "__main__":
        return True
    # To search a large array takes as long as to copy it.
    nbytes = getattr(value, "nbytes", 0)
    if isinstance(nbytes, int) and nbytes > _LARGE_BYTES:
        return True
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and bool(cloudpickle.list_registry_pickle_by_value())


def _dumps_whole(value: Any) -> bytes:
    # Imported here, since many workers never need it.
    import cloudpickle

    pickled: bytes = cloudpickle.dumps(value, protocol=_PROTOCOL)
    return pickled
