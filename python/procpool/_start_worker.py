"""Starts a worker of a private pool: `python _start_worker.py FILE`.

The file has the search path of the process that made the pool, its key for `multiprocessing`, and its initialiser. A script
and not a module: the package may be found only with that search path.
"""

import pickle
import sys
from pathlib import Path


def start() -> None:
    """Take over the search path and the key, and run the worker."""
    path, key, initialization = pickle.loads(Path(sys.argv[1]).read_bytes())
    sys.path[:] = path
    from procpool.worker.__main__ import run_by_value
    from procpool.worker.authkey import set_authkey

    set_authkey(key)
    run_by_value(initialization)


start()
