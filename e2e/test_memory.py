"""Workers that hold too much memory."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import PROCPOOL, Server, call, python_worker, wait_until

LIMIT = 200 << 20
COLLECT = {"onError": "ON_ERROR_COLLECT"}


@pytest.fixture
def memory_cgroup():
    """A memory cgroup with the limit. Only root can make one, and containers often have it read-only."""
    for root, limit in [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]:
        cgroup = Path(root) / f"procpool-e2e-{os.getpid()}"
        try:
            cgroup.mkdir()
        except OSError:
            continue
        try:
            # Without a controller there is no such file, and it must not be made.
            if (cgroup / limit).exists():
                (cgroup / limit).write_text(str(LIMIT))
                yield cgroup
                return
        finally:
            cgroup.rmdir()
    pytest.skip("this machine lets us make no memory cgroup")


def error_info(error):
    """Returns the ErrorInfo of an item's error."""
    [info] = [detail for detail in error["status"]["details"] if detail["@type"].endswith("ErrorInfo")]
    return info


def test_an_item_that_takes_too_much_memory_fails_alone_and_its_slot_is_filled_again():
    limits = ["--worker-memory-limit", str(LIMIT), "--max-worker-memory", "150MiB"]
    with Server("--processes", "2", *limits, command=python_worker("e2e/functions.py")) as server:
        before = server.wait_ready(2)
        request = {"function": "hold", "values": [1, 2, 300, 3, 4], "options": COLLECT}
        [answer] = call(server, "Map", request)
        assert answer["values"] == [1, 2, None, 3, 4]
        [error] = answer["errors"]
        assert error["index"] == "2"
        info = error_info(error)
        assert info["reason"] == "WORKER_OOM_KILLED"
        metadata = info["metadata"]
        assert metadata["limit_bytes"] == str(LIMIT)
        assert int(metadata["rss_bytes"]) > LIMIT
        assert int(metadata["peak_rss_bytes"]) > LIMIT
        assert float(metadata["cpu_seconds"]) > 0
        assert metadata["signal"] == "9"
        assert int(metadata["pid"]) in before
        after = server.wait_ready(3)
        assert len(after) == 2 and int(metadata["pid"]) not in after
        [line] = server.lines("worker killed")
        assert line["peak_rss_bytes"] == int(metadata["peak_rss_bytes"])
        shown = subprocess.run(
            [PROCPOOL, "workers", "--server", f"http://{server.address}", "--output", "json"],
            capture_output=True,
            check=True,
        )
        pool = json.loads(shown.stdout)
        assert pool["memory_enforcement"] == "monitor"
        assert pool["worker_memory_limit_bytes"] == LIMIT
        assert pool["max_worker_memory_bytes"] == 150 << 20
        assert all(10 << 20 < worker["rss_bytes"] < LIMIT for worker in pool["workers"])


def test_an_item_that_the_kernel_kills_for_want_of_memory_fails_alone(memory_cgroup):
    # Only the workers are in it, one after the other; the server is not.
    enter = ["sh", "-c", f'echo $$ >{memory_cgroup}/cgroup.procs && exec "$0" "$@"']
    with Server("--processes", "1", command=[*enter, *python_worker("e2e/functions.py")]) as server:
        [before] = server.wait_ready(1)
        [answer] = call(server, "Map", {"function": "hold", "values": [1, 2, 300, 3, 4], "options": COLLECT})
        assert answer["values"] == [1, 2, None, 3, 4]
        [error] = answer["errors"]
        info = error_info(error)
        assert (error["index"], info["reason"]) == ("2", "WORKER_OOM_KILLED")
        metadata = info["metadata"]
        assert (metadata["signal"], metadata["pid"]) == ("9", str(before))
        assert "limit_bytes" not in metadata, "it was no limit of ours"
        assert int(metadata["peak_rss_bytes"]) > LIMIT // 2
        server.wait_ready(2)


def test_workers_that_leak_are_replaced_one_at_a_time_and_no_item_fails():
    with Server(
        "--processes", "2", "--max-worker-memory", "100MiB", command=python_worker("e2e/functions.py")
    ) as server:
        server.wait_ready(2)
        # Far more than a hundred items take until the first worker is looked at.
        [answer] = call(server, "Map", {"function": "leak", "values": [4] * 200})
        assert len(answer["values"]) == 200
        stopped = wait_until(lambda: len(found := server.lines("worker stopped")) >= 2 and found, "both are replaced")
        assert {line["reason"] for line in stopped} == {"Memory"}
        assert not server.lines("worker exited unexpectedly")
        # Each waits until the one before it has been replaced.
        messages = [line.get("message") for line in server.log]
        order = [message for message in messages if message in ("worker stopped", "worker is ready")]
        first = order.index("worker stopped")
        assert order[first : first + 3] == ["worker stopped", "worker is ready", "worker stopped"]


def test_the_memory_of_a_command_is_that_of_its_worker():
    # tail keeps what it may have to print, and there is no end.
    function = "hold=sh -c 'cat /dev/zero | tail -c $0' {}"
    worker = [str(PROCPOOL), "worker", "exec", "--function", function]
    with Server("--processes", "1", "--worker-memory-limit", str(LIMIT), command=worker) as server:
        server.wait_ready(1)
        [answer] = call(server, "Map", {"function": "hold", "values": [300_000_000], "options": COLLECT})
        [error] = answer["errors"]
        assert error_info(error)["reason"] == "WORKER_OOM_KILLED"
        server.wait_ready(2)


def test_an_allocation_that_the_kernel_refuses_is_an_error_of_the_item():
    command = python_worker("e2e/functions.py")
    with Server("--processes", "1", "--rlimits", "as=1GiB", "--rlimits", "nofile=64", command=command) as server:
        before = server.wait_ready(1)
        [answer] = call(server, "Map", {"function": "hold", "values": [1, 4096, 2], "options": COLLECT})
        assert answer["values"] == [1, None, 2]
        [error] = answer["errors"]
        info = error_info(error)
        assert (info["reason"], info["metadata"]["type"]) == ("FUNCTION_RAISED", "MemoryError")
        assert server.workers() == before
