"""Time: limits of items and deadlines of calls, against workers that hang in every way there is."""

import json
import os
import signal
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from conftest import PATIENCE, PROCPOOL, Server, call, grpcurl, python_worker, wait_until
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from procpool.v1 import pool_pb2, pool_pb2_grpc

FUNCTIONS = python_worker("e2e/functions.py")
GRACE = ["--cancel-grace-period", "300ms", "--kill-grace-period", "300ms"]


@pytest.fixture(scope="module")
def server():
    with Server("--processes", "2", *GRACE, command=FUNCTIONS) as server:
        server.wait_ready(2)
        yield server


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(server.address) as channel:
        yield pool_pb2_grpc.PoolServiceStub(channel)


def request_of(kind, function, *items, **options):
    request = kind(function=function)
    request.values.extend(items)
    limit = options.pop("item_timeout", None)
    if limit is not None:
        request.options.item_timeout.FromTimedelta(limit)
    for name, value in options.items():
        setattr(request.options, name, value)
    return request


def details_of(error):
    found = {}
    for detail in rpc_status.from_call(error).details:
        message = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])()
        assert detail.Unpack(message)
        found[type(message).__name__] = message
    return found


def wait_for_two_idle_workers(server):
    def are_idle():
        line = [PROCPOOL, "workers", "--output", "json", "--server", server.address]
        workers = json.loads(subprocess.run(line, capture_output=True, check=True, timeout=PATIENCE).stdout)["workers"]
        return [worker["state"] for worker in workers] == ["ready", "ready"]

    wait_until(are_idle, "both workers have nothing to do")


def exits_of(server, pid):
    return [line for line in server.lines("worker stopped") if line.get("pid") == pid]


# How it hangs, what ends it, and a line of its stack.
WAYS_TO_HANG = {
    "spin": (None, "in hang"),
    "sleep": (None, "in hang"),
    "c": (None, "in hang"),
    "gil": (None, "in hang"),
    "deaf": ("signal 9", "in hang"),
}


@pytest.mark.parametrize("how", WAYS_TO_HANG)
def test_an_item_that_hangs_is_ended_and_tells_where_it_was(server, stub, tmp_path, how):
    ended_by, line = WAYS_TO_HANG[how]
    marker = tmp_path / "pid"
    request = request_of(pool_pb2.MapRequest, "hang", [how, str(marker)], item_timeout=timedelta(seconds=0.5))
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Map(request, timeout=PATIENCE)
    took = time.monotonic() - began
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    details = details_of(caught.value)
    assert details["ErrorInfo"].reason == "ITEM_TIMEOUT"
    assert details["ErrorInfo"].metadata["limit_ms"] == "500"
    assert took >= 0.5
    entries = details["DebugInfo"].stack_entries
    assert any(line in entry and "functions.py" in entry for entry in entries[:6]), entries
    pid = int(marker.read_text())
    if ended_by is None:
        # Cancelled ended the item (a read in C code returns for its signal, which is sent without the lock), and the
        # worker lives.
        [answer] = call(server, "Map", {"function": "pid", "values": list(range(8))})
        assert pid in answer["values"]
        assert exits_of(server, pid) == []
    else:
        wait_until(lambda: exits_of(server, pid), "the worker is replaced")
        assert ended_by in exits_of(server, pid)[0]["exit"]
    # The pool has both its workers again, and they work.
    wait_for_two_idle_workers(server)
    [answer] = call(server, "Map", {"function": "echo", "values": list(range(100))})
    assert answer["values"] == list(range(100))


@pytest.mark.parametrize("how", ["spin", "deaf"])
def test_no_neighbour_of_an_item_that_hangs_is_hit(server, stub, tmp_path, how):
    items = [["note", str(tmp_path / f"{number}")] for number in range(40)]
    items[7] = [how, str(tmp_path / "7")]
    request = request_of(
        pool_pb2.MapRequest, "hang", *items, item_timeout=timedelta(seconds=0.5), on_error=pool_pb2.ON_ERROR_COLLECT, chunk_size=10
    )
    answer = stub.Map(request, timeout=PATIENCE)
    assert [error.index for error in answer.errors] == [7]
    assert all((tmp_path / f"{number}").exists() for number in range(40))
    assert [result for number, result in enumerate(answer.values) if number != 7] == ["note"] * 39


def varint(number):
    encoded = b""
    while number >= 0x80:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def slow_to_decode(kind):
    """Returns the items of a MapRequest. The second takes seconds or minutes to decode, the others no time."""
    if kind == "digits":
        # The time goes with their square, and nothing can interrupt it. It is more than the test's patience.
        blobs = pool_pb2.BlobList(blobs=[b"1", b"9" * 10_000_000, b"2"])
        return pool_pb2.MapRequest(blobs=blobs, content_type="application/json").SerializeToString()
    # To encode it with the library would take as long. An empty list in a list, and that in an item.
    record, count = b"\x0a\x02\x32\x00", 10_000_000
    value = b"\x32" + varint(len(record) * count) + record * count
    one, two = (b"\x0a\x09\x11" + struct.pack("<d", number) for number in (1, 2))
    items = b"".join([one, b"\x0a" + varint(len(value)) + value, two])
    return b"\x12" + varint(len(items)) + items


@pytest.mark.parametrize("kind", ["values", "digits"])
def test_an_item_whose_decoding_takes_too_long_is_ended_alone(kind):
    long_integers = ["--environment", "PYTHONINTMAXSTRDIGITS=0"]
    with Server("--processes", "2", *GRACE, *long_integers, command=FUNCTIONS) as server:
        server.wait_ready(2)
        request = pool_pb2.MapRequest(function="echo")
        request.options.item_timeout.FromTimedelta(timedelta(seconds=0.5))
        request.options.on_error = pool_pb2.ON_ERROR_COLLECT
        request.options.chunk_size = 3
        with grpc.insecure_channel(server.address) as channel:
            call_map = channel.unary_unary("/procpool.v1.PoolService/Map", bytes, pool_pb2.MapResponse.FromString)
            answer = call_map(request.SerializeToString() + slow_to_decode(kind), timeout=PATIENCE)
        assert [error.index for error in answer.errors] == [1]
        info = error_details_pb2.ErrorInfo()
        assert answer.errors[0].status.details[0].Unpack(info)
        assert (info.reason, info.metadata["limit_ms"]) == ("ITEM_TIMEOUT", "500")
        results = answer.values if kind == "values" else [json.loads(blob or "null") for blob in answer.blobs.blobs]
        assert list(results) == [1, None, 2]
        [answer] = call(server, "Map", {"function": "echo", "values": list(range(100))})
        assert answer["values"] == list(range(100))


@pytest.mark.parametrize("kind", ["python", "rust"])
def test_no_item_fails_for_one_that_ends_as_its_time_is_up(kind):
    """Whether the first of two items ends in time is open each time; the second has its own result, always."""
    limit, second = 100, 30
    function, command = ("spin_ms", FUNCTIONS) if kind == "python" else ("sleep_ms", None)
    with Server("--processes", "2", command=command) as server, grpc.insecure_channel(server.address) as channel:
        server.wait_ready(2)
        stub = pool_pb2_grpc.PoolServiceStub(channel)

        def run(first):
            request = request_of(
                pool_pb2.MapRequest,
                function,
                first if kind == "python" else round(first),
                second,
                item_timeout=timedelta(milliseconds=limit),
                on_error=pool_pb2.ON_ERROR_COLLECT,
                chunk_size=2,
            )
            answer = stub.Map(request, timeout=PATIENCE)
            return [error.index for error in answer.errors], answer.values[1], answer.errors

        with ThreadPoolExecutor(2) as threads:
            outcomes = list(threads.map(run, [limit + step / 10 for step in range(-3, 7)] * 6))
        for failed, value, errors in outcomes:
            assert failed in ([], [0]), errors
            assert value == second, "it ran for as long as it should"
        assert any(failed for failed, _, _ in outcomes), "no time was ever up: that was no test"


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(") ")[2].startswith("T"), "the process stands still")


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("limit", [None, 0.5])
def test_an_idle_worker_that_was_stopped_holds_up_no_call(processes, limit):
    with Server("--processes", str(processes), command=FUNCTIONS) as server:
        stopped = server.wait_ready(processes)[0]
        stop(stopped)
        with grpc.insecure_channel(server.address) as channel:
            options = {} if limit is None else {"item_timeout": timedelta(seconds=limit)}
            request = request_of(pool_pb2.MapRequest, "echo", *range(20), **options)
            answer = pool_pb2_grpc.PoolServiceStub(channel).Map(request, timeout=PATIENCE)
        assert list(answer.values) == list(range(20))
        # Made to go on, or given up: whatever comes first.
        noticed = ["SIGCONT is sent", "worker neither begins its items nor answers"]
        pids = lambda: [line["pid"] for message in noticed for line in server.lines(message)]  # noqa: E731
        wait_until(lambda: stopped in pids(), "it is noticed")
        wait_until(lambda: len(server.workers()) == processes, "the slot has a worker again")
        [answer] = call(server, "Map", {"function": "echo", "values": list(range(100))})
        assert answer["values"] == list(range(100))


def test_a_late_answer_is_dropped_and_the_next_attempt_counts(server, stub, tmp_path):
    wait_for_two_idle_workers(server)
    marker = tmp_path / "attempts"
    request = request_of(
        pool_pb2.MapRequest, "answer_late_once", str(marker), item_timeout=timedelta(seconds=0.3), max_attempts=2
    )
    assert list(stub.Map(request, timeout=PATIENCE).values) == ["attempt 2"]
    runs = [line.split() for line in marker.read_text().splitlines()]
    assert [attempt for attempt, _ in runs] == ["1", "2"]
    assert runs[0][1] != runs[1][1], "another worker has tried it again"


def test_an_item_that_kills_its_worker_is_tried_again_by_another(server, stub, tmp_path):
    wait_for_two_idle_workers(server)
    marker = tmp_path / "attempts"
    request = request_of(pool_pb2.MapRequest, "die_once", str(marker), max_attempts=2)
    assert list(stub.Map(request, timeout=PATIENCE).values) == ["attempt 2"]
    runs = [line.split() for line in marker.read_text().splitlines()]
    assert [attempt for attempt, _ in runs] == ["1", "2"] and runs[0][1] != runs[1][1]


@pytest.mark.parametrize("how", ["sleep", "c"])
def test_the_deadline_ends_unary_calls_and_streams(server, stub, tmp_path, how):
    timeout = 1.0
    for number, method in enumerate(["Map", "IMap"]):
        item = [how, str(tmp_path / f"{number}")]
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            if method == "Map":
                stub.Map(request_of(pool_pb2.MapRequest, "hang", item), timeout=timeout)
            else:
                items = [["note", str(tmp_path / "first")], item]
                list(stub.IMap(request_of(pool_pb2.IMapRequest, "hang", *items, chunk_size=1), timeout=timeout))
        late_by = time.monotonic() - began - timeout
        print(f"{method} {how}: {late_by * 1000:+.1f} ms")
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert late_by > -0.1
    wait_for_two_idle_workers(server)


def test_a_worker_tells_where_it_is_and_goes_on(server, tmp_path):
    def dump(worker):
        line = [PROCPOOL, "workers", "dump", str(worker), "--server", server.address]
        return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)

    marker = tmp_path / "item"
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(call, server, "Map", {"function": "note_and_wait", "values": [str(marker)]})
        wait_until(lambda: marker.exists() and marker.read_text(), "the item runs")
        line = [PROCPOOL, "workers", "--output", "json", "--server", server.address]
        shown = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=True)
        workers = {worker["pid"]: worker["worker_id"] for worker in json.loads(shown.stdout)["workers"]}
        busy = workers[int(marker.read_text())]
        done = dump(busy)
        assert done.returncode == 0, done.stderr
        first_thread = done.stdout.split("\n\n")[0]
        assert "in note_and_wait" in first_thread, done.stdout
        method = "procpool.v1.PoolAdminService/DumpWorker"
        code, out, err = grpcurl(server, server.address, method, data={"workerId": busy})
        assert code == 0, err
        assert "in note_and_wait" in json.loads(out)["stacks"]
        marker.with_suffix(".release").touch()
        assert answer.result(timeout=PATIENCE)[0]["values"] == ["item"]
    nobody = dump(1_000_000)
    assert nobody.returncode == 4 and "no such worker" in nobody.stderr, nobody
    stopped = server.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    silent = dump(workers[stopped])
    os.kill(stopped, signal.SIGCONT)
    assert silent.returncode == 4 and "did not answer" in silent.stderr, silent


def test_a_worker_of_another_language_says_that_it_cannot_tell():
    with Server("--processes", "1") as server:
        server.wait_ready(1)
        method = "procpool.v1.PoolAdminService/DumpWorker"
        code, _, printed = grpcurl(server, server.address, method, data={"workerId": 1})
        assert code != 0
        assert "Code: FailedPrecondition" in printed and "DUMP_NOT_SUPPORTED" in printed
        assert call(server, "Map", {"function": "echo", "values": [1]})[0]["values"] == [1]


def test_a_stack_is_in_what_the_command_line_prints(server, tmp_path):
    item = json.dumps(["sleep", str(tmp_path / "pid")])
    line = [PROCPOOL, "map", "hang", item, "--item-timeout", "300ms", "--server", server.address]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "ran longer than its limit of 300ms" in done.stderr and "in hang" in done.stderr
    assert Path(tmp_path / "pid").exists()
