"""procpool: `multiprocessing.Pool` as a gRPC service.

This is the worker's side. A module of plain functions needs nothing of it::

    procpool serve --processes 4 -- python -m procpool.worker my_functions.py

What is here is for functions that want more: options (`function`), the item that runs (`current`), and whether anybody
still waits for its result (`cancelled`).
"""

from pkgutil import extend_path

from ._context import Cancelled, CurrentItem, call_metadata, cancelled, current
from ._function import function
from ._version import __version__

# The stubs of the API are `procpool.v1`, in a folder of their own: they can be imported beside this package.
__path__ = extend_path(__path__, __name__)

__all__ = ["Cancelled", "CurrentItem", "__version__", "call_metadata", "cancelled", "current", "function"]
