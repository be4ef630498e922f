"""A real server for the tests of the native client."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = Path(__file__).resolve().parent
# Behind a variable, as cargo has it.
BINARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "procpool"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(TESTS)])}


@contextlib.contextmanager
def serve(folder, *options):
    """Run a server on a socket in a folder, and return its address."""
    address = f"unix:{folder}/socket"
    worker = [sys.executable, "-m", "procpool.worker", str(TESTS / "native_functions.py")]
    command = [str(BINARY), "serve", "--listen", address, "--processes", "2", *options, "--", *worker]
    server = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_serving(address) or server.poll() is not None)
        yield address
    finally:
        # The second one ends it at once, unless it comes before the first was seen.
        while server.poll() is None:
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.2)


def is_serving(address):
    from procpool import _native

    with contextlib.suppress(_native.CallError, TimeoutError):
        return _native.Client(address).is_serving(5)
    return False


def wait_until(condition):
    while not condition():
        time.sleep(0.01)


def run_python(script, *arguments, timeout=100):
    """Run a script in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, timeout=timeout, capture_output=True, text=True, check=False)
