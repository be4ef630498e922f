"""The clock jumps (F20), and the machine runs out of something (F21): calls that can go on do, and the pool is whole soon
after there is enough again."""

import os
import resource
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import grpc
import pytest
from conftest import PATIENCE, TARGET, Server, call, grpcurl, python_worker, wait_until
from procpool.v1 import pool_pb2, pool_pb2_grpc

FUNCTIONS = python_worker("e2e/functions.py")
LIBFAKETIME = TARGET / "tools" / "libfaketime" / "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
PIDS_CGROUPS = Path("/sys/fs/cgroup/pids")


def may(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not LIBFAKETIME.exists(), reason="cargo xtask setup gets libfaketime only where there is apt-get")
def test_a_clock_that_jumps_has_nothing_expire(tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(LIBFAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    limits = ["--item-timeout", "60s", "--max-worker-age", "10min", "--idle-timeout", "5min"]
    with Server("--processes", "2", *limits, command=FUNCTIONS, environment=environment) as server, ThreadPoolExecutor() as threads:
        workers = server.wait_ready(2)
        marker = tmp_path / "item"
        with grpc.insecure_channel(server.address.removeprefix("http://")) as channel:
            stub = pool_pb2_grpc.PoolServiceStub(channel)
            request = pool_pb2.MapRequest(function="note_and_wait")
            request.values.extend([str(marker)])
            answer = threads.submit(stub.Map, request, timeout=60.0)
            wait_until(marker.exists, "the item runs")
            for jump, seconds in [("+1h", 3600), ("-1h", -3600), ("+400d", 400 * 86400), ("+0", 0)]:
                clock.write_text(jump)
                request = {"function": "echo", "values": [1, 2, 3], "options": {"itemTimeout": "5s"}}
                assert call(server, "Map", request) == [{"values": [1, 2, 3]}]
                assert abs(time_of_day(server) - time.time() - seconds) < 60, "the server has seen the jump"
            assert not answer.done()
            marker.with_suffix(".release").touch()
            assert list(answer.result(timeout=PATIENCE).values) == ["item"]
        assert server.workers() == workers, "no worker was replaced"


def time_of_day(server: Server) -> float:
    """Has the server write a line to its log; returns the time that it bears."""
    before = len(server.lines("call failed"))
    grpcurl(server, server.address, "procpool.v1.PoolService/Map", data={"function": "missing", "values": [1]})
    [line] = wait_until(lambda: server.lines("call failed")[before:], "the refusal is in the log")
    return datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")).timestamp()


def spawn_fails_and_heals(server: Server, take_away, give_back, error: str) -> None:
    """Kills a worker while no other can be started; the rest goes on, and the slot is filled when that is over.

    The server logs its first attempt as a warning, and the others for who looks closely.
    """
    [victim, _] = server.wait_ready(2)
    address = server.address.removeprefix("http://")
    with grpc.insecure_channel(address) as channel:
        stub = pool_pb2_grpc.PoolServiceStub(channel)
        request = pool_pb2.MapRequest(function="echo")
        request.values.extend([1, 2, 3])
        assert list(stub.Map(request, timeout=PATIENCE).values) == [1, 2, 3]
        take_away()
        os.kill(victim, signal.SIGKILL)

        def failures():
            lines = server.lines("worker could not be started") + server.lines("worker can still not be started")
            return [line for line in lines if error in line["reason"]]

        wait_until(failures, "no worker can be started")
        for _ in range(20):
            assert list(stub.Map(request, timeout=PATIENCE).values) == [1, 2, 3]
        wait_until(lambda: len(failures()) >= 3, "it is tried again")
        assert len(server.lines("worker could not be started")) == 1
        give_back()
        server.wait_ready(3)
    assert len(server.workers()) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may count the files of the server, which hides itself from its workers")
def test_without_file_descriptors_the_pool_goes_on_and_heals():
    with Server("--processes", "2", "--log-level", "debug", command=FUNCTIONS) as server:
        server.wait_ready(2)
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)

        def take_away():
            used = [int(fd) for fd in os.listdir(f"/proc/{server.pid}/fd")]
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (max(used) + 1, limits[1]))

        def give_back():
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)

        spawn_fails_and_heals(server, take_away, give_back, "Too many open files")


@pytest.mark.skipif(not os.access(PIDS_CGROUPS, os.W_OK), reason="needs a cgroup (version 1) that it may limit")
def test_without_processes_the_pool_goes_on_and_heals():
    cgroup = PIDS_CGROUPS / f"procpool-test-{os.getpid()}"
    cgroup.mkdir()
    try:
        with Server("--processes", "2", "--log-level", "debug", command=FUNCTIONS) as server:
            server.wait_ready(2)
            # The server alone: a worker that dies makes no room for another.
            (cgroup / "cgroup.procs").write_text(str(server.pid))

            def take_away():
                (cgroup / "pids.max").write_text((cgroup / "pids.current").read_text())

            def give_back():
                (cgroup / "pids.max").write_text("max")

            spawn_fails_and_heals(server, take_away, give_back, "Resource temporarily unavailable")
    finally:
        # Those that were started in it are gone by now, but maybe not yet for the kernel.
        wait_until(lambda: not (cgroup / "cgroup.procs").read_text(), "the cgroup is empty")
        cgroup.rmdir()


@pytest.mark.skipif(not may(["unshare", "--mount", "true"]), reason="needs a mount namespace of its own")
def test_with_a_full_disk_and_a_read_only_tmp_the_server_serves():
    # The log goes to a file on a disk that is full.
    # What is in /tmp stays visible: the checkout may be there.
    script = 'mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp && exec "$@" 2>/dev/full'
    with Server("--processes", "2", prefix=["unshare", "--mount", "sh", "-c", script, "sh"], command=FUNCTIONS) as server:
        for _ in range(3):
            [answer] = call(server, "Map", {"function": "echo", "values": list(range(100))})
            assert answer == {"values": list(range(100))}
        # What writes to the log most of all.
        request = {"function": "kill_worker_if", "values": ["a", "die", "b"], "options": {"onError": "ON_ERROR_COLLECT"}}
        [answer] = call(server, "Map", request)
        assert answer["values"] == ["a", None, "b"]
        assert server.log == []
