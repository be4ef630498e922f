"""Pools of every kind, for tests of what they have in common."""

import multiprocessing

import built_program
import pytest

built_program.use_it()

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
