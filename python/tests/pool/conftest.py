"""Pools of every kind, for tests of what they have in common."""

import multiprocessing
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def program() -> str:
    """Returns the newest program procpool that was built."""
    built = [path for path in [TARGET / "release/procpool", TARGET / "debug/procpool"] if path.exists()]
    assert built, "build the program first: cargo build"
    return str(max(built, key=lambda path: path.stat().st_mtime))


if "PROCPOOL_INSTALLED" not in os.environ:
    os.environ.setdefault("PROCPOOL_PROGRAM", program())

import procpool


@pytest.fixture(params=[multiprocessing.Pool, procpool.Pool], ids=["multiprocessing", "procpool"])
def any_pool(request):
    """One pool of each kind: what is tested with it holds for both."""
    with request.param(2) as pool:
        yield pool


@pytest.fixture(params=[multiprocessing.Pool, procpool.Pool], ids=["multiprocessing", "procpool"])
def pool_type(request):
    return request.param


@pytest.fixture(scope="module")
def pool():
    with procpool.Pool(2) as pool:
        yield pool
