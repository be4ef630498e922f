"""`python -m procpool.worker --check`: a module is looked at, and called, without a server."""

import os
import subprocess
import sys
from pathlib import Path

MATCHES = Path(__file__).parent.parent.parent / "examples/matches.py"


def check(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "procpool.worker", "--check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_the_functions_of_a_module_are_shown():
    done = check(str(MATCHES))
    assert done.returncode == 0, done.stderr
    lines = dict(line.split("(", 1) for line in done.stdout.splitlines())
    assert lines["power"].startswith("base: float, exponent: float) -> float  Raise a base to an exponent")


def test_a_function_is_called_in_this_process():
    done = check(str(MATCHES), "power", "2", "10")
    assert (done.returncode, done.stdout) == (0, "1024\n")
    done = check(str(MATCHES), "shout", "quietly")
    assert (done.returncode, done.stdout) == (0, '"QUIETLY"\n')


def test_what_goes_wrong_is_said():
    done = check(str(MATCHES), "square_root", "-1")
    assert done.returncode == 1
    assert "in square_root" in done.stderr
    assert done.stderr.endswith("square_root has failed: ValueError: -1 has no real square root\n")
    done = check(str(MATCHES), "nothing")
    assert done.returncode == 1
    assert "has no function nothing; it has: analyze_match" in done.stderr
    done = check("nowhere.py")
    assert done.returncode == 1
    assert "nowhere.py" in done.stderr
    done = check()
    assert done.returncode == 2
