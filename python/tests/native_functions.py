"""Functions over bytes, for the tests of the native client."""

import os
import pickle
import signal
import time
from pathlib import Path

import procpool


def echo(blob: bytes) -> bytes:
    return blob


def square(blob: bytes) -> bytes:
    return pickle.dumps(pickle.loads(blob) ** 2)


def add(common: bytes, blob: bytes) -> bytes:
    return pickle.dumps(pickle.loads(common) + pickle.loads(blob))


def large(blob: bytes) -> bytes:
    return bytes(1 << 20)


def power(base: float, exponent: float) -> float:
    return base**exponent


def not_a_pickle(blob: bytes) -> bytes:
    return b"cno_such_module\nname\n."


def crash(blob: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return blob


def crash_if(blob: bytes) -> bytes:
    return crash(blob) if pickle.loads(blob) else blob


def hang(blob: bytes) -> bytes:
    time.sleep(3600)
    return blob


def hang_until_cancelled(blob: bytes) -> bytes:
    """Say in a folder when it starts, and when it is cancelled."""
    folder = Path(pickle.loads(blob))
    (folder / "started").touch()
    try:
        time.sleep(3600)
    except procpool.Cancelled:
        (folder / "cancelled").touch()
        raise
    return blob


def wait_for_file(blob: bytes) -> bytes:
    path = pickle.loads(blob)
    while path is not None and not Path(path).exists():
        time.sleep(0.005)
    return blob
