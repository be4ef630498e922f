"""What the server does about its workers' processes: what they leave, when they stand still, and what they can read."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import PATIENCE, PROCPOOL, Server, call, is_alive, python_worker, wait_until

FUNCTIONS = python_worker("e2e/functions.py")
COLLECT = {"onError": "ON_ERROR_COLLECT"}


def segment(name: str) -> Path:
    return Path("/dev/shm") / name


def test_shared_memory_is_gone_with_its_worker_however_that_ends():
    with Server("--processes", "1", "--max-items-per-worker", "1", command=FUNCTIONS) as server:
        server.wait_ready(1)
        [answer] = call(server, "Map", {"function": "share", "values": [""]})
        [recycled] = answer["values"]
        wait_until(lambda: not segment(recycled).exists(), "the recycled worker's segment is gone")

    with Server("--processes", "1", command=FUNCTIONS) as server:
        [worker] = server.wait_ready(1)
        [answer] = call(server, "Map", {"function": "share", "values": [""]})
        [killed] = answer["values"]
        assert segment(killed).exists()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not segment(killed).exists(), "the killed worker's segment is gone")

        server.wait_ready(2)
        # Python starts the process that tidies up with the first segment, which may take longer than the item may.
        call(server, "Map", {"function": "share", "values": [""]})
        name = f"procpool-e2e-{os.getpid()}"
        options = {"itemTimeout": "0.5s", **COLLECT}
        [answer] = call(server, "Map", {"function": "share", "values": [name], "options": options})
        assert len(answer["errors"]) == 1
        wait_until(lambda: not segment(name).exists(), "the segment of the worker that took too long is gone")

        server.wait_ready(3)
        [answer] = call(server, "Map", {"function": "share", "values": [""]})
        [drained] = answer["values"]
        assert segment(drained).exists()
        assert server.stop() == 0
        assert not segment(drained).exists()


def test_a_worker_that_stops_itself_within_an_item_is_made_to_go_on(tmp_path):
    with Server("--processes", "1", command=FUNCTIONS) as server:
        [worker] = server.wait_ready(1)
        # Nothing limits its time.
        [answer] = call(server, "Map", {"function": "stop_once", "values": [str(tmp_path / "marker")]})
        assert answer["values"] == [worker]
        assert server.lines("SIGCONT")
        [answer] = call(server, "Map", {"function": "stop_always", "values": [0], "options": COLLECT})
        [error] = answer["errors"]
        assert "it was stopped (SIGSTOP)" in error["status"]["message"]
        wait_until(lambda: server.lines("worker killed"), "the log says so")
        wait_until(lambda: not is_alive(worker), "it is gone")


def as_nobody() -> list[str]:
    """Returns what to put before a command so that it does not run as root, who may read everything."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    try:
        done = subprocess.run([*prefix, str(PROCPOOL), "--version"], capture_output=True, timeout=PATIENCE)
    except FileNotFoundError:
        pytest.skip("there is no setpriv, and root may read everything")
    if done.returncode != 0:
        pytest.skip("nobody may not run the program from where it is, and root may read everything")
    return prefix


# Tells the names of the processes in whose environment the item can be read. A command, since nobody may have no Python.
FIND = "find=sh -c 'for process in /proc/[0-9]*; do " + (
    'tr "\\0" "\\n" <$process/environ 2>/dev/null | grep -q "$0" && cat $process/comm; done; echo end\' {}'
)


def test_workers_cannot_read_the_environment_of_the_server():
    # Not as a literal, which this very process may have in its own environment (PYTEST_CURRENT_TEST).
    secret = f"hush-{os.urandom(8).hex()}"
    worker = [str(PROCPOOL), "worker", "exec", "--function", FIND]
    with Server("--processes", "1", command=worker, prefix=as_nobody(), environment={"SECRET": secret}) as server:
        [worker] = server.wait_ready(1)
        [answer] = call(server, "Map", {"function": "find", "values": [secret]})
        assert answer["values"][0].split() == ["end"]
        # And what the server does for its workers still works.
        raised = int(Path(f"/proc/{worker}/oom_score_adj").read_text())
        assert raised == min(1000, int(Path(f"/proc/{server.pid}/oom_score_adj").read_text()) + 500)
