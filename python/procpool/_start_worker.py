"""Starts a worker of a private pool: `python _start_worker.py FILE`.

The file has the search path of the process that made the pool, its key for `multiprocessing`, and its initialiser. A script
and not a module: the package may be found only with that search path.
"""

import pickle
import sys


def start() -> None:
    """Take over the search path and the key, and run the worker."""
    path, key, initialization = _read(sys.argv[1])
    sys.path[:] = path
    from procpool.worker.authkey import set_authkey
    from procpool.worker.by_value import run_by_value

    set_authkey(key)
    run_by_value(initialization)


def _read(path: str) -> tuple[list[str], bytes, bytes | None]:
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib takes as long to import as all the rest
        read: tuple[list[str], bytes, bytes | None] = pickle.load(file)
    return read


# multiprocessing imports it anew in what it spawns from a worker.
if __name__ == "__main__":
    start()
