"""The libraries that people run a pool with, each with our pool in the place of theirs."""

import built_program
import pytest

built_program.use_it()

import procpool


@pytest.fixture(scope="module")
def pool():
    with procpool.Pool(2) as pool:
        yield pool
