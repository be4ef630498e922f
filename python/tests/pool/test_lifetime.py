"""No server and no worker outlives the process whose pool it is, whatever way that ends."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

PATIENCE = 30.0
HERE = Path(__file__).parent

BEGIN = """
import os, signal, sys, time
from pool import functions
import procpool

pool = procpool.Pool(2)
workers = set()
while len(workers) < 2:
    workers.update(pool.map(functions.pid, range(4), chunksize=1))
print(pool._server.pid, *workers, flush=True)
"""


def begin(script: str) -> tuple[subprocess.Popen, list[int]]:
    """Starts a program with a pool; returns it with the pids of its server and workers."""
    code = textwrap.dedent(BEGIN) + textwrap.dedent(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *filter(None, sys.path)])}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 3, process.communicate()
    return process, pids


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"these are left: {[pid for pid in pids if is_alive(pid)]}"
        time.sleep(0.01)


def end(process: subprocess.Popen) -> tuple[int, str]:
    _, error = process.communicate(timeout=PATIENCE)
    return process.returncode, error


ENDS = {
    "the end of the program": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "os._exit": ("os._exit(4)", 4),
    "an exception": ("raise ValueError", 1),
    "while a call runs": ("pool.map_async(functions.sleep, [60] * 4); sys.exit(5)", 5),
    "while an iterator is open": ("it = pool.imap(functions.sleep, iter([60] * 4)); sys.exit(6)", 6),
    "with the pool closed": ("pool.close()", 0),
    "with the pool terminated": ("pool.terminate(); pool.join()", 0),
    "in a with": ("with pool: pool.map(functions.sleep, [0.01])", 0),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "SIGKILL while a call runs": (
        "pool.map_async(functions.sleep, [60] * 4); os.kill(os.getpid(), signal.SIGKILL)",
        -signal.SIGKILL,
    ),
}


@pytest.mark.parametrize(("script", "code"), ENDS.values(), ids=ENDS)
def test_nothing_is_left_after(script, code):
    process, pids = begin(script)
    assert end(process)[0] == code
    assert_gone(pids)


def test_a_forked_child_neither_ends_the_pool_nor_is_stuck():
    process, pids = begin(
        """
        for _ in range(20):
            child = os.fork()
            if child == 0:
                # It may use the pool, too.
                if pool.map(functions.square, [2, 3]) != [4, 9]:
                    os._exit(1)
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
        assert pool.map(functions.square, [2, 3]) == [4, 9]
        """
    )
    code, error = end(process)
    assert code == 0, error
    assert_gone(pids)


def test_ctrl_c_ends_a_call_and_not_the_pool():
    process, pids = begin(
        """
        import random, threading
        for seed in range(100):
            pause = random.Random(seed).random() * 0.02
            try:
                threading.Timer(pause, os.kill, (os.getpid(), signal.SIGINT)).start()
                while True:
                    pool.map(functions.sleep, [0.001] * 4)
            except KeyboardInterrupt:
                pass
        assert pool.map(functions.square, [2, 3]) == [4, 9]
        """
    )
    code, error = end(process)
    assert code == 0, error
    assert_gone(pids)


def test_ctrl_c_in_a_terminal_is_for_the_program_only():
    process, pids = begin("signal.pause()")
    os.kill(process.pid, signal.SIGINT)
    assert end(process)[0] == -signal.SIGINT
    assert_gone(pids)
