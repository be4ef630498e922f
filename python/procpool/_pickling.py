"""Pickles of what the native module does not write itself.

With cloudpickle, if it is there, also functions and classes that no module has: lambdas, closures, those of `__main__`.
"""

from __future__ import annotations

import pickle
from typing import Any

try:
    from cloudpickle import dumps as _dumps
except ImportError:
    _dumps = pickle.dumps

PROTOCOL = 5


def dumps(value: Any) -> bytes:
    """Return the pickle of an object."""
    return _dumps(value, protocol=PROTOCOL)
