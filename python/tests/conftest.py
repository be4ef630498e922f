import os
import sys
from pathlib import Path

import pytest

# With it, the installed package is tested.
if "PROCPOOL_INSTALLED" not in os.environ:
    sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

try:
    from procpool import _native
except ImportError as error:
    pytest.exit(f"the native module is missing; run: cargo xtask native ({error})", returncode=2)

from fake_server import FakeServer
from native_server import serve


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server.until_ready()


@pytest.fixture(scope="module")
def shared_server():
    """One worker for many small tests; each leaves it in order."""
    with FakeServer() as server:
        yield server.until_ready()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where a real server listens, for tests of the native client."""
    with serve(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture
def client(address):
    client = _native.Client(address)
    yield client
    client.close()
