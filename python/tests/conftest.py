import os
import sys
from pathlib import Path

import pytest

# With it, the installed package is tested.
if "PROCPOOL_INSTALLED" not in os.environ:
    sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

try:
    import procpool._native  # noqa: F401
except ImportError as error:
    pytest.exit(f"the native module is missing; run: cargo xtask native ({error})", returncode=2)

from fake_server import FakeServer


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server.until_ready()


@pytest.fixture(scope="module")
def shared_server():
    """One worker for many small tests; each leaves it in order."""
    with FakeServer() as server:
        yield server.until_ready()
