"""Pickles of functions, arguments and results, for calls by value."""

from __future__ import annotations

import pickle
from typing import Any


def dumps(value: Any) -> bytes:
    """Return a pickle of the object. What pickle itself can't write, such as a lambda, takes cloudpickle."""
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:
        try:
            import cloudpickle
        except ImportError:
            pass
        else:
            return cloudpickle.dumps(value, protocol=5)
        raise


def loads(data: bytes) -> Any:
    """Return the object of a pickle."""
    return pickle.loads(data)
