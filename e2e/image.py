"""The image and the Deployment, run by podman: not collected with the other tests, since it needs root and podman.

`k8s/test.sh` runs it. What podman cannot do (probes, Services, preStop) is not tested here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
import yaml
from conftest import PATIENCE, ROOT, call, children_of, is_alive, wait_until
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from procpool.v1 import pool_pb2, pool_pb2_grpc

STATIC = Path(os.environ["PROCPOOL_STATIC"]).resolve()
# As k8s/test/kustomization.yaml has it.
ADDRESS = "127.0.0.1:50571"
CONTAINER = "procpool-pod-0-procpool"
# How many clients call at a time, most of them with Map, some with IMap.
NUM_CALLERS = 12
# Of each call; an item takes some milliseconds of computing.
NUM_ITEMS = 20
LONGEST_CALL = 60.0


def run(*line: object, **options) -> str:
    done = subprocess.run([str(each) for each in line], capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout


def inspect(field: str) -> str:
    return run("podman", "inspect", CONTAINER, "--format", "{{" + field + "}}").strip()


def log() -> list[dict]:
    done = subprocess.run(["podman", "logs", CONTAINER], capture_output=True, text=True, timeout=PATIENCE)
    return [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> str:
    context = tmp_path_factory.mktemp("context")
    shutil.copy(STATIC, context / "procpool")
    image = "localhost/procpool:test"
    run("buildah", "bud", "--isolation", "chroot", "-t", image, "-f", ROOT / "Containerfile", context)
    return image


@pytest.fixture(scope="module")
def objects(image) -> list[dict]:
    rendered = run(f"{sys.prefix}/bin/kubectl", "kustomize", ROOT / "k8s/test")
    return list(yaml.safe_load_all(rendered))


@pytest.fixture
def deployment(objects, tmp_path):
    """The spec of the pod that runs."""
    path = tmp_path / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    run("podman", "kube", "play", "--replace", path)
    try:
        wait_until(is_serving, "the server is serving")
        [deployment] = [each for each in objects if each["kind"] == "Deployment"]
        yield deployment["spec"]["template"]["spec"]
    finally:
        subprocess.run(["podman", "logs", "--tail", "40", CONTAINER], timeout=PATIENCE)
        run("podman", "kube", "down", path)


def is_serving() -> bool:
    return subprocess.run([STATIC, "health", "--server", ADDRESS], capture_output=True).returncode == 0


def test_grpcurl_on_the_host_calls_the_deployment(deployment):
    server = SimpleNamespace(address=ADDRESS)
    assert call(server, "StarMap", {"function": "power", "values": [[2, 10], [3, 3]]}) == [{"values": [1024, 27]}]
    [answer] = call(server, "Map", {"function": "analyze_match", "values": [1, 2, 3]})
    assert answer["values"] == [f"Result for Match #{match}: Analysis Clear" for match in [1, 2, 3]]


def test_slots_are_the_cpus_of_the_limit(deployment):
    assert os.cpu_count() > 1, "with one CPU, this shows nothing"
    assert deployment["containers"][0]["resources"]["limits"]["cpu"] == "1"
    assert len([line for line in log() if "worker is ready" in line["message"]]) == 1


def test_it_runs_with_nothing_that_restricted_forbids(deployment):
    pid = int(inspect(".State.Pid"))
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["NSpid"].split()[-1] == "1", "it is process 1"
    user = str(deployment["securityContext"]["runAsUser"])
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {user}
    assert all(int(status[name], 16) == 0 for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    root = Path(f"/proc/{pid}/root")
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    [options] = [mount[5] for mount in mounts if mount[4] == "/"]
    assert "ro" in options.split(",")
    assert not (root / "tmp").exists() and not (root / "bin").exists()
    assert [each.name for each in (root / "usr/bin").iterdir()] == ["procpool"]


def test_process_1_buries_its_workers_and_fills_the_slot(deployment):
    server, first = SimpleNamespace(address=ADDRESS), int(inspect(".State.Pid"))
    for _ in range(5):
        [worker] = wait_until(lambda: children_of(first), "there is a worker")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{worker}").exists(), "it is reaped")
        assert call(server, "Map", {"function": "echo", "values": [1]}) == [{"values": [1]}]
    assert all(is_alive(pid) for pid in [first, *children_of(first)])


def test_process_1_buries_orphans_that_it_has_never_seen(deployment):
    """The worker of another server in the container that is killed: the kernel makes it a child of process 1."""
    line = ["/usr/bin/procpool", "serve", "--listen", "127.0.0.1:50060"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(["podman", "exec", CONTAINER, *line], **pipes) as other:
        try:
            assert other.stdout.readline() == b"listening on 127.0.0.1:50060\n"
            # Between fork and exec, a child has its parent's command line.
            [killed] = wait_until(lambda: only(pids_of(line)), "the server is alone")
            [orphan] = wait_until(lambda: children_of(killed), "there is a worker")
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: not Path(f"/proc/{orphan}").exists(), "it is reaped")
        finally:
            # The end of `podman exec` alone ends nothing in the container.
            for pid in pids_of(line):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            other.kill()
    first = int(inspect(".State.Pid"))
    assert all(is_alive(pid) for pid in [first, *children_of(first)])


def only(found: list[int]) -> list[int] | None:
    return found if len(found) == 1 else None


def pids_of(line: list[str]) -> list[int]:
    wanted = b"".join(word.encode() + b"\0" for word in line)
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == wanted:
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            pass  # It has just ended.
    return found


class Caller(threading.Thread):
    """Calls until it is refused, and counts."""

    def __init__(self, use_imap: bool):
        super().__init__()
        self.use_imap = use_imap
        self.begun = self.answered = 0
        self.refusal = self.failure = None

    def run(self) -> None:
        numbers = range(10_000_000, 10_000_000 + NUM_ITEMS)
        # Each with a connection of its own.
        with grpc.insecure_channel(ADDRESS, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = pool_pb2_grpc.PoolServiceStub(channel)
            while not self.refusal and not self.failure:
                request = pool_pb2.IMapRequest() if self.use_imap else pool_pb2.MapRequest()
                request.function = "sum_to"
                request.values.extend(numbers)
                self.begun += 1
                try:
                    if self.use_imap:
                        messages = stub.IMap(request, timeout=LONGEST_CALL)
                        results = [result for message in messages for result in message.values]
                    else:
                        results = list(stub.Map(request, timeout=LONGEST_CALL).values)
                except grpc.RpcError as error:
                    self.refusal = refusal(error)
                    self.failure = None if self.refusal else error
                else:
                    self.answered += 1
                    if results != [number * (number + 1) // 2 for number in numbers]:
                        self.failure = results


def refusal(error: grpc.RpcError) -> str | None:
    """Tells how a call was refused before anything of it was begun, or None if it was not: then it has failed."""
    if error.code() != grpc.StatusCode.UNAVAILABLE:
        return None
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.reason == "DRAINING":
            return info.reason
    return "not connected" if "failed to connect to all addresses" in error.details() else None


def test_a_stop_under_load_is_in_time_and_fails_no_call(deployment, capsys):
    grace_period = deployment["terminationGracePeriodSeconds"]
    callers = [Caller(use_imap=number % 3 == 0) for number in range(NUM_CALLERS)]
    for caller in callers:
        caller.start()
    wait_until(lambda: all(caller.answered >= 2 or caller.failure for caller in callers), "everybody is served")
    before = sum(caller.answered for caller in callers)
    begun = time.monotonic()
    # As kubelet does after preStop; what is left at the end of the time gets SIGKILL, and the exit code 137.
    run("podman", "stop", "--time", grace_period, CONTAINER)
    taken = time.monotonic() - begun
    for caller in callers:
        caller.join(timeout=LONGEST_CALL)
    during = sum(caller.answered for caller in callers) - before
    refusals = [caller.refusal for caller in callers]
    exit_code = inspect(".State.ExitCode")
    with capsys.disabled():
        print(f"\n{NUM_CALLERS} clients: {before} calls answered before SIGTERM, {during} after it;", end=" ")
        print("then refused:", {kind: refusals.count(kind) for kind in refusals}, end="; ")
        print(f"exit code {exit_code} after {taken:.2f} s of {grace_period} s")
    assert [caller.failure for caller in callers if caller.failure] == []
    assert all(caller.begun == caller.answered + 1 for caller in callers)
    assert during > 0, "nothing was in progress: that shows nothing"
    assert exit_code == "0"
    assert log()[-1]["message"] == "stopped"
