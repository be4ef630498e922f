"""Workers that hold too much memory."""

import json
import subprocess

from conftest import PROCPOOL, Server, call, python_worker, wait_until

LIMIT = 200 << 20
COLLECT = {"onError": "ON_ERROR_COLLECT"}


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
        [line] = server.lines("worker exited unexpectedly")
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
