"""procpool: `multiprocessing.Pool` that never hangs.

For callers, `Pool`, `Executor` and `aio.Pool`::

    from procpool import Pool

    with Pool(4) as pool:
        print(pool.map(lambda number: number**2, range(10)))

For workers, options of a function (`function`), the item that runs (`current`), and whether anybody still waits for its
result (`cancelled`). A module of plain functions needs none of that::

    procpool serve --processes 4 -- python -m procpool.worker my_functions.py
"""

from __future__ import annotations

from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._cancelled import Cancelled
    from ._context import CurrentItem, call_metadata, cancelled, current
    from ._function import function
    from .errors import (
        CallError,
        FunctionNotFoundError,
        ItemError,
        ItemTimeoutError,
        ProcpoolError,
        RemoteError,
        ResultTimeoutError,
        TerminatedError,
        WorkerCrashedError,
        WorkerOutOfMemoryError,
    )
    from .executor import Executor, Future
    from .pool import Pool
    from .results import AsyncResult, IMapIterator

__all__ = [
    "AsyncResult",
    "CallError",
    "Cancelled",
    "CurrentItem",
    "Executor",
    "FunctionNotFoundError",
    "Future",
    "IMapIterator",
    "ItemError",
    "ItemTimeoutError",
    "Pool",
    "ProcpoolError",
    "RemoteError",
    "ResultTimeoutError",
    "TerminatedError",
    "WorkerCrashedError",
    "WorkerOutOfMemoryError",
    "__version__",
    "call_metadata",
    "cancelled",
    "current",
    "function",
    "register_joblib",
]

# Where what is not in `errors` is. Nothing is imported before it is used: workers start sooner so.
_MODULES = {
    "AsyncResult": "results",
    "Cancelled": "_cancelled",
    "CurrentItem": "_context",
    "Executor": "executor",
    "Future": "executor",
    "IMapIterator": "results",
    "Pool": "pool",
    "call_metadata": "_context",
    "cancelled": "_context",
    "current": "_context",
    "function": "_function",
}


def __getattr__(name: str) -> Any:
    """Import what is first used now."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def register_joblib() -> None:
    """Make the backend `procpool` known to joblib: `with joblib.parallel_config(backend="procpool"):`."""
    from ._joblib import register

    register()
