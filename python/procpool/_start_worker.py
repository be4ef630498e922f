"""Starts a worker of a private pool: `python _start_worker.py FILE`.

The file has the search path of the process that made the pool, and its initialiser. A script and not a module: the
package may be found only with that search path.
"""

import pickle
import sys
from pathlib import Path


def start() -> None:
    """Take over the search path, and run the worker."""
    path, initialization = pickle.loads(Path(sys.argv[1]).read_bytes())
    sys.path[:] = path
    from procpool.worker.__main__ import run_by_value

    run_by_value(initialization)


# multiprocessing imports it anew in what it spawns from a worker.
if __name__ == "__main__":
    start()
