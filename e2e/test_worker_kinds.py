"""Workers that are neither Rust nor Python: commands, and Node. And the kit's word on every kind."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import PATIENCE, PROCPOOL, ROOT, Server, call, grpcurl, is_alive, wait_until

EXEC = [
    str(PROCPOOL),
    "worker",
    "exec",
    "--function=echo=printf %s {}",
    "--function=add=expr {} + {}",
    "--function=count=wc -c",
    "--function=sh=sh -c {}",
    "--function=cat=cat",
]


@pytest.fixture(scope="session")
def node_worker(node):
    return [*node, "examples/node-worker/worker.js"]


@pytest.fixture(scope="module")
def exec_server():
    with Server("--processes", "2", command=EXEC) as server:
        server.wait_ready(2)
        yield server


@pytest.fixture(scope="module")
def node_server(node_worker):
    with Server("--processes", "2", command=node_worker) as server:
        server.wait_ready(2)
        yield server


def check(command):
    """Runs the kit; returns its exit code and what it printed."""
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    line = [str(PROCPOOL), "worker", "check", "--timeout", "20s", "--", *command]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    return done.returncode, done.stdout


@pytest.mark.parametrize("module", ["examples/matches.py", "python/tests/functions_for_tests.py", "e2e/functions.py"])
def test_the_python_worker_passes_the_kit(module):
    code, printed = check(["python", "-m", "procpool.worker", module])
    assert (code, "0 failed" in printed) == (0, True), printed


def test_the_node_worker_passes_the_kit_and_nearly_nothing_is_skipped(node_worker):
    code, printed = check(node_worker)
    assert code == 0, printed
    # What only a worker with a progress page can do.
    assert "0 failed, 2 skipped" in printed, printed


def test_the_exec_worker_passes_the_kit():
    code, printed = check(EXEC)
    assert (code, "0 failed" in printed) == (0, True), printed


def test_commands_take_values_and_blobs(exec_server):
    assert call(exec_server, "Map", {"function": "echo", "values": [1, "two", [3], None]}) == [
        {"values": [1, "two", [3], None]}
    ]
    assert call(exec_server, "StarMap", {"function": "add", "values": [[1, 2], [3, 4]]}) == [{"values": [3, 7]}]
    assert call(exec_server, "Apply", {"function": "add", "values": [20, 22]}) == [{"value": 42}]
    request = {"function": "count", "blobs": {"blobs": ["aGVsbG8=", ""]}}
    # wc prints a line, and bytes are not touched.
    assert call(exec_server, "Map", request) == [{"blobs": {"blobs": ["NQo=", "MAo="]}}]
    request = {"function": "cat", "contentType": "application/json", "blobs": {"blobs": ["MTIzNDU2Nzg5MDEyMzQ1Njc4OTA="]}}
    assert call(exec_server, "Map", request)[0]["blobs"]["blobs"] == request["blobs"]["blobs"]


def test_a_command_that_fails_tells_its_exit_code_and_its_stderr(exec_server):
    before = sorted(exec_server.workers())
    request = {"function": "sh", "values": ["echo no luck >&2; exit 3"]}
    code, _, printed = grpcurl(exec_server, exec_server.address, "procpool.v1.PoolService/Map", data=request)
    assert code != 0
    assert "ExitCode(3): no luck" in printed
    assert '"reason":"FUNCTION_RAISED"' in printed
    assert exec_server.lines("no luck"), "stderr is in the log"
    assert sorted(exec_server.workers()) == before


def test_an_item_timeout_kills_the_command_and_not_the_worker(exec_server, tmp_path):
    before = sorted(exec_server.workers())
    file = tmp_path / "pids"
    request = {
        "function": "sh",
        "values": [f"sleep 600 & echo $$ $! > {file}; wait"],
        "options": {"itemTimeout": "0.5s"},
    }
    code, _, printed = grpcurl(exec_server, exec_server.address, "procpool.v1.PoolService/Map", data=request)
    assert code != 0
    assert '"reason":"ITEM_TIMEOUT"' in printed
    pids = [int(pid) for pid in file.read_text().split()]
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_alive, pids)), "the whole group is gone")
    assert sorted(exec_server.workers()) == before


def test_no_command_outlives_a_killed_server(tmp_path):
    file = tmp_path / "pids"
    with Server("--processes", "1", command=EXEC) as server:
        server.wait_ready(1)
        script = f"sleep 600 & echo $$ $! > {file}; wait"
        line = [str(PROCPOOL), "map", "--server", server.address, "sh", f'"{script}"']
        client = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"), "the command runs")
        server.kill()
        assert client.wait(timeout=PATIENCE) != 0
    pids = [int(pid) for pid in file.read_text().split()]
    wait_until(lambda: not any(map(is_alive, pids)), "the whole group is gone")


def test_node_functions_are_called_in_every_way(node_server):
    assert call(node_server, "Map", {"function": "is_prime", "values": [7, 8, 9]}) == [{"values": [True, False, False]}]
    assert call(node_server, "StarMap", {"function": "power", "values": [[2, 10], [3, 3]]}) == [{"values": [1024, 27]}]
    assert call(node_server, "Apply", {"function": "power", "values": [2, 10]}) == [{"value": 1024}]
    assert call(node_server, "Map", {"function": "echo", "blobs": {"blobs": ["AP8="]}}) == [{"blobs": {"blobs": ["AP8="]}}]
    numbers = list(range(3000))
    assert call(node_server, "Map", {"function": "echo", "values": numbers}) == [{"values": numbers}]
    [answer] = call(node_server, "ListFunctions", {})
    names = [function["name"] for function in answer["functions"]]
    assert names == ["echo", "fail", "is_prime", "lookup", "power", "sleep_ms"]
    request = {"function": "lookup", "values": ["b", "x"], "common_value": {"a": 1, "b": [2]}}
    assert call(node_server, "Map", request) == [{"values": [[2], None]}]


def test_node_errors_have_type_and_stack(node_server):
    request = {"function": "fail", "values": ["no luck"]}
    code, _, printed = grpcurl(node_server, node_server.address, "procpool.v1.PoolService/Map", data=request)
    assert code != 0
    assert "RangeError: no luck" in printed
    assert "examples/node-worker/worker.js" in printed


def test_a_node_function_is_told_that_it_is_cancelled(node_server):
    before = sorted(node_server.workers())
    request = {"function": "sleep_ms", "values": [600_000], "options": {"itemTimeout": "0.3s"}}
    code, _, printed = grpcurl(node_server, node_server.address, "procpool.v1.PoolService/Map", data=request)
    assert code != 0
    assert '"reason":"ITEM_TIMEOUT"' in printed
    assert call(node_server, "Map", {"function": "echo", "values": [1, 2, 3, 4]}) == [{"values": [1, 2, 3, 4]}]
    assert sorted(node_server.workers()) == before


def test_a_killed_node_worker_fails_the_item_that_it_started_and_no_other(node_worker):
    with Server("--processes", "1", command=node_worker) as server:
        [pid] = server.wait_ready(1)
        line = [str(PROCPOOL), "imap", "--server", server.address, "--chunk-size", "3", "sleep_ms", "1", "60000", "2"]
        client = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert client.stdout.readline() == "1\n"
        for _ in range(10):
            os.kill(pid, signal.SIGKILL)
            try:
                out, err = client.communicate(timeout=3)
                break
            except subprocess.TimeoutExpired:
                # The kill came before the item began: it runs on the next worker, and the next kill is for it.
                [pid] = server.workers()
        assert out == "null\n2\n", err
        assert "item 1: worker process" in err
        assert server.stop() == 0
