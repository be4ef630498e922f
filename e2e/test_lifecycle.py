"""Kills, cancels, drains: nothing hangs, nothing is lost, nothing is left."""

import json
import os
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from conftest import PATIENCE, PROCPOOL, Server, call, grpcurl, is_alive, python_worker, wait_until
from procpool.v1 import pool_pb2, pool_pb2_grpc

FUNCTIONS = python_worker("e2e/functions.py")
COLLECT = {"onError": "ON_ERROR_COLLECT"}


def values(*items):
    request = pool_pb2.MapRequest()
    request.values.extend(items)
    return request.values


def test_a_kill_mid_item_fails_that_item_alone_and_the_slot_is_filled_again(tmp_path):
    with Server("--processes", "1", command=FUNCTIONS) as server, ThreadPoolExecutor() as threads:
        server.wait_ready(1)
        markers = [str(tmp_path / f"item-{item}") for item in range(5)]
        # All are one chunk; all but the one in the middle are released already.
        for marker in markers[:2] + markers[3:]:
            Path(marker).with_suffix(".release").touch()
        request = {"function": "note_and_wait", "values": markers, "options": {"chunkSize": 5, **COLLECT}}
        answer = threads.submit(call, server, "Map", request)
        victim = wait_until(lambda: Path(markers[2]).exists() and Path(markers[2]).read_text(), "the item runs")
        os.kill(int(victim), signal.SIGKILL)
        [answer] = answer.result(timeout=PATIENCE)
        names = [Path(marker).name for marker in markers]
        assert answer["values"] == [*names[:2], None, *names[3:]]
        [error] = answer["errors"]
        assert (error["index"], error["status"]["code"]) == ("2", 10)
        [info] = [detail for detail in error["status"]["details"] if detail["@type"].endswith("ErrorInfo")]
        assert info["reason"] == "WORKER_CRASHED"
        assert info["metadata"]["signal"] == "9"
        server.wait_ready(2)
        assert len(server.workers()) == 1 and str(server.workers()[0]) != victim


def test_an_item_that_kills_its_worker_does_not_take_its_chunk_with_it():
    with Server("--processes", "2", command=FUNCTIONS) as server:
        server.wait_ready(2)
        items = [str(item) for item in range(200)]
        items[77] = "die"
        request = {"function": "kill_worker_if", "values": items, "options": COLLECT}
        [answer] = call(server, "Map", request)
        assert [error["index"] for error in answer["errors"]] == ["77"]
        assert [result for result in answer["values"] if result] == [item for item in items if item != "die"]


def test_a_kill_of_the_server_leaves_no_worker(tmp_path):
    server = Server("--processes", "4", command=FUNCTIONS)
    pids = server.wait_ready(4)
    markers = [str(tmp_path / f"item-{item}") for item in range(4)]
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(
            grpcurl, server, server.address, "procpool.v1.PoolService/Map",
            data={"function": "note_and_wait", "values": markers},
        )  # fmt: skip
        wait_until(lambda: all(Path(marker).exists() for marker in markers), "all slots are busy")
        server.kill()
        wait_until(lambda: not any(map(is_alive, pids)), "every worker is gone")
        assert answer.result(timeout=PATIENCE)[0] != 0


def test_a_kill_of_the_server_leaves_nothing_of_what_its_workers_started():
    server = Server("--processes", "2", command=FUNCTIONS)
    server.wait_ready(2)
    [answer] = call(server, "Map", {"function": "start_children", "values": [1, 2], "options": {"chunkSize": 1}})
    pids = [int(pid) for family in answer["values"] for pid in family]
    assert len(pids) == 6 and all(is_alive(pid) for pid in pids)
    server.kill()
    wait_until(lambda: not any(map(is_alive, pids)), "everything is gone")


def test_sigterm_finishes_the_map_refuses_new_calls_and_exits_0(tmp_path):
    with Server("--processes", "1", command=FUNCTIONS) as server, ThreadPoolExecutor() as threads:
        server.wait_ready(1)
        marker = tmp_path / "item"
        with grpc.insecure_channel(server.address) as channel:
            stub = pool_pb2_grpc.PoolServiceStub(channel)
            request = pool_pb2.MapRequest(function="note_and_wait", values=values(str(marker)))
            answer = threads.submit(stub.Map, request, timeout=PATIENCE)
            wait_until(marker.exists, "the item runs")
            # A client that says nothing must not delay the end.
            silent = socket.create_connection(server.address.rsplit(":", 1))
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: server.lines("pool is draining"), "the server drains")
            with pytest.raises(grpc.RpcError) as caught:
                stub.Map(pool_pb2.MapRequest(function="echo", values=values(1)), timeout=PATIENCE)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            marker.with_suffix(".release").touch()
            assert list(answer.result(timeout=PATIENCE).values) == ["item"]
        assert server.process.wait(timeout=PATIENCE) == 0
        silent.close()


def test_an_open_stream_does_not_delay_the_end_past_the_drain_timeout():
    with Server("--processes", "1", "--drain-timeout", "1s") as server:
        server.wait_ready(1)
        with grpc.insecure_channel(server.address) as channel:
            hold = pool_pb2_grpc.PoolServiceStub(channel).IMapStream(endless_requests(), timeout=3600)
            next(hold)
            assert server.stop() == 0, "the stream alone would last for an hour"
            with pytest.raises(grpc.RpcError) as caught:
                list(hold)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def endless_requests():
    """Says what to run, sends one item, and never closes."""
    yield pool_pb2.IMapStreamRequest(config=pool_pb2.IMapStreamConfig(function="echo"), values=values(1))
    threading.Event().wait(3600)


def test_a_client_that_hangs_up_frees_the_slots_and_its_queue_never_runs(tmp_path):
    with Server("--processes", "2", command=FUNCTIONS) as server:
        server.wait_ready(2)
        counter = tmp_path / "counter"
        items = tmp_path / "items"
        items.write_text(f"{json.dumps(str(counter))}\n" * 2000)
        line = [PROCPOOL, "map", "--server", f"http://{server.address}", "count", "--file", items]
        client = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: counter.exists() and len(counter.read_text().splitlines()) > 4, "some items ran")
        client.kill()
        client.wait(timeout=PATIENCE)
        # The slots are free again when somebody else's items run on both.
        [answer] = call(server, "Map", {"function": "pid", "values": list(range(8))})
        assert set(answer["values"]) == set(server.workers())
        ran = len(counter.read_text().splitlines())
        [_] = call(server, "Map", {"function": "pid", "values": list(range(8))})
        assert len(counter.read_text().splitlines()) == ran < 2000


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_without_processes_the_pool_has_as_many_slots_as_the_process_has_cpus():
    cpu = min(os.sched_getaffinity(0))
    with Server(prefix=["taskset", "--cpu-list", str(cpu)]) as server:
        server.wait_ready(1)
        [answer] = call(server, "ListFunctions", {})
        assert answer["limits"]["numSlots"] == 1
        assert len(server.workers()) == 1


@pytest.fixture
def one_cpu_cgroup():
    """A cgroup whose quota is one CPU, where this machine lets us make one."""
    group = Path("/sys/fs/cgroup/cpu") / f"procpool-e2e-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text((group / "cpu.cfs_period_us").read_text())
    except OSError as error:
        pytest.skip(f"no CPU quota can be set here: {error}")
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
    group.rmdir()


def test_without_processes_the_pool_has_as_many_slots_as_the_quota_allows(one_cpu_cgroup):
    enter = ["sh", "-c", f'echo $$ > {one_cpu_cgroup}/cgroup.procs && exec "$@"', "sh"]
    with Server(prefix=enter) as server:
        server.wait_ready(1)
        [answer] = call(server, "ListFunctions", {})
        assert answer["limits"]["numSlots"] == 1
        assert server.stop() == 0


def test_n_items_on_n_slots_use_n_processes():
    with Server("--processes", "3", command=FUNCTIONS) as server:
        server.wait_ready(3)
        [answer] = call(server, "Map", {"function": "pid", "values": [1, 2, 3]})
        assert set(answer["values"]) == set(server.workers())
