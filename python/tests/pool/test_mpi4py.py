"""The tests that mpi4py has for its own twin of `multiprocessing.Pool`, run with ours."""

import os
import sys
import unittest
from pathlib import Path

import pytest

import procpool

ROOT = Path(__file__).parent.parent.parent.parent
# `cargo xtask setup` fetches it.
SOURCE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "tools/mpi4py/test"

SKIPPED = {
    "test_unsupported_args": "it checks that maxtasksperchild and context are refused with a warning: ours takes them",
}

# The workers import the module, too.
sys.path[:0] = [str(Path(__file__).with_name("mpi4py_stubs")), str(SOURCE)]
import test_util_pool as theirs


@pytest.mark.filterwarnings("ignore::ResourceWarning")
class TestPool(theirs.BaseTestPool, unittest.TestCase):
    PoolType = procpool.Pool


for name, reason in SKIPPED.items():
    setattr(TestPool, name, unittest.skip(reason)(getattr(theirs.BaseTestPool, name)))
