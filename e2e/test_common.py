"""An argument that all items share: sent to each worker once, decoded there once, passed before every item."""

import base64
import json
import os
import signal
import subprocess
import threading

import grpc
import pytest
from conftest import PATIENCE, PROCPOOL, Server, call, grpcurl, python_worker, wait_until
from procpool.v1 import pool_pb2, pool_pb2_grpc

EXEC = [
    *[str(PROCPOOL), "worker", "exec"],
    "--function=pair=printf [%s,%s] {} {}",
    "--function=grep=grep -c -e {}",
    "--function=count=wc -c",
]


@pytest.fixture(scope="module")
def python_pool():
    with Server("--processes", "2", command=python_worker("e2e/functions.py")) as server:
        server.wait_ready(2)
        yield server


@pytest.fixture(scope="module")
def exec_pool():
    with Server("--processes", "2", command=EXEC) as server:
        server.wait_ready(2)
        yield server


@pytest.fixture(scope="module")
def stub(python_pool):
    with grpc.insecure_channel(python_pool.address) as channel:
        yield pool_pb2_grpc.PoolServiceStub(channel)


def cli(server, *arguments, stdin=""):
    """Runs a command of the binary; returns its exit code, the values that it printed, and stderr."""
    line = [str(PROCPOOL), arguments[0], "--server", server.address, *arguments[1:]]
    done = subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


TABLE = {"a": 1, "b": [2, None], "c": {"d": "e"}}


@pytest.mark.parametrize("pool", ["rust_server", "python_pool"])
def test_grpcurl_sends_one_with_every_method(pool, request):
    server = request.getfixturevalue(pool)
    wanted = {"function": "lookup", "values": ["a", "b", "c"]}
    for name in ["common_value", "commonValue"]:
        assert call(server, "Map", wanted | {name: TABLE}) == [{"values": list(TABLE.values())}]
    starred = {"function": "lookup", "values": [["c"], ["a"]], "common_value": TABLE}
    assert call(server, "StarMap", starred) == [{"values": [TABLE["c"], 1]}]
    messages = call(server, "IMap", wanted | {"common_value": TABLE})
    assert [value for message in messages for value in message["values"]] == list(TABLE.values())
    config = {"config": {"function": "lookup", "common_value": TABLE}}
    stream = "\n".join(json.dumps(message) for message in [config, {"values": ["a"]}, {"values": ["c"]}])
    messages = call(server, "IMapStream", stream)
    assert [value for message in messages for value in message.get("values", [])] == [1, TABLE["c"]]
    blob = base64.b64encode(json.dumps(TABLE).encode()).decode()
    key = base64.b64encode(b'"a"').decode()
    answer = call(
        server,
        "Map",
        {"function": "lookup", "blobs": {"blobs": [key]}, "contentType": "application/json", "common_blob": blob},
    )
    assert base64.b64decode(answer[0]["blobs"]["blobs"][0]) == b"1"


def test_null_is_an_argument_too(python_pool):
    [answer] = call(python_pool, "Map", {"function": "witness", "values": [1], "common_value": None})
    assert answer["values"][0][2] == 1


ERRORS = [
    ("echo", {"common_value": 1}, "Unknown", "TypeError"),
    ("witness", {"common_blob": "ew==", "contentType": "application/json"}, "InvalidArgument", "content_type"),
]


@pytest.mark.parametrize(("function", "fields", "code", "detail"), ERRORS, ids=["no place for it", "beside values"])
def test_what_is_wrong_with_it_is_said(python_pool, function, fields, code, detail):
    request = {"function": function, "values": [1]} | fields
    status, _, printed = grpcurl(python_pool, python_pool.address, "procpool.v1.PoolService/Map", data=request)
    assert status != 0
    assert f"Code: {code}" in printed
    assert detail in printed


def test_one_that_cannot_be_decoded_fails_every_item_and_says_so(python_pool):
    blobs = {"blobs": [base64.b64encode(b"1").decode()] * 3}
    request = {"function": "witness", "contentType": "application/json", "blobs": blobs, "common_blob": "ew=="}
    [answer] = call(python_pool, "Map", request | {"options": {"onError": "ON_ERROR_COLLECT"}})
    assert [int(error.get("index", 0)) for error in answer["errors"]] == [0, 1, 2]
    for error in answer["errors"]:
        assert error["status"]["code"] == 3
        assert "`common` can't be decoded" in error["status"]["message"]


def test_every_item_on_a_worker_gets_the_same_object(python_pool, stub):
    request = pool_pb2.MapRequest(function="witness", options=pool_pb2.CallOptions(chunk_size=1))
    request.common_value.struct_value.update({"k": 1})
    request.values.extend(range(100))
    answer = [list(witness) for witness in stub.Map(request, timeout=PATIENCE).values]
    objects = {}
    for pid, identity, _ in answer:
        objects.setdefault(pid, set()).add(identity)
    assert sorted(objects) == sorted(python_pool.workers()), "both had a share"
    assert [len(identities) for identities in objects.values()] == [1, 1], "decoded once on each"
    assert [item for _, _, item in answer] == list(range(100))


def test_calls_at_the_same_time_keep_theirs_apart(stub):
    def run(name, answers):
        request = pool_pb2.MapRequest(function="lookup", options=pool_pb2.CallOptions(chunk_size=1))
        request.common_value.struct_value.update({"key": name})
        request.values.extend(["key"] * 200)
        answers[name] = set(stub.Map(request, timeout=PATIENCE).values)

    answers = {}
    names = [f"call {index}" for index in range(8)]
    threads = [threading.Thread(target=run, args=(name, answers)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {name: {name} for name in names}


def test_grpcio_streams_with_one(stub):
    config = pool_pb2.IMapStreamConfig(function="scale", star=True)
    config.common_value.number_value = 10

    def requests():
        yield pool_pb2.IMapStreamRequest(config=config)
        for index in range(5):
            request = pool_pb2.IMapStreamRequest()
            request.values.append([index, -index])
            yield request

    results = [list(value) for message in stub.IMapStream(requests(), timeout=PATIENCE) for value in message.values]
    assert results == [[10 * index, -10 * index] for index in range(5)]
    request = pool_pb2.IMapRequest(function="join_bytes", common_blob=b"\x00\xff")
    request.blobs.blobs.extend([b"1", b""])
    results = [blob for message in stub.IMap(request, timeout=PATIENCE) for blob in message.blobs.blobs]
    assert results == [b"\x00\xff1", b"\x00\xff"]


def test_the_command_line_takes_json_or_a_file(python_pool, tmp_path):
    file = tmp_path / "table.json"
    file.write_text(json.dumps({"a": 1}, indent=2))
    assert cli(python_pool, "map", "lookup", "--common", f"@{file}", '"a"') == (0, [1], "")
    file.write_text(json.dumps({"big": 2**63}))
    assert cli(python_pool, "map", "--json", "lookup", "--common", f"@{file}", '"big"') == (0, [2**63], "")
    assert cli(python_pool, "starmap", "scale", "--common", "-3", "[1,2]", "[0.5,4]") == (0, [[-3, -6], [-1.5, -12]], "")
    code, printed, error = cli(python_pool, "imap", "lookup", "--common", '{"x":7}', stdin='"x"\n"x"\n')
    assert (code, printed, error) == (0, [7, 7], "")
    for common, problem in [("{", "is not JSON"), ("@/no/such/file", "cannot read /no/such/file")]:
        code, printed, error = cli(python_pool, "map", "lookup", "--common", common, "1")
        assert (code, printed) == (2, [])
        assert problem in error
    code, _, error = cli(python_pool, "map", "lookup", "--common", str(2**60), "1")
    assert code == 2
    assert "the common argument cannot be sent" in error


def test_commands_take_it_in_their_first_place(exec_pool):
    assert cli(exec_pool, "map", "pair", "--common", "1", "2", "3") == (0, [[1, 2], [1, 3]], "")
    assert cli(exec_pool, "starmap", "pair", "--common", '{"a":1}', "[4]") == (0, [[{"a": 1}, 4]], "")
    # Its one place is taken, so the item is on stdin.
    assert cli(exec_pool, "map", "grep", "--common", '"^a"', '"abc\\nxyz\\nade"') == (0, [2], "")
    code, _, error = cli(exec_pool, "map", "count", "--common", "1", "2")
    assert code == 2
    assert "takes 1 argument, and 2 were given with the common argument" in error


def test_a_worker_that_takes_the_place_of_another_gets_it_anew():
    with Server("--processes", "1", command=python_worker("e2e/functions.py")) as server:
        [pid] = server.wait_ready(1)
        line = [str(PROCPOOL), "imap", "--server", server.address, "--chunk-size", "1", "--max-attempts", "10"]
        client = subprocess.Popen(
            [*line, "witness", "--common", '["kept"]', "1..300"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        first = json.loads(client.stdout.readline())
        assert first[0] == pid
        os.kill(pid, signal.SIGKILL)
        out, error = client.communicate(timeout=PATIENCE)
        assert client.returncode == 0, error
        answers = [first, *map(json.loads, out.splitlines())]
        assert [answer[2] for answer in answers] == list(range(1, 301))
        pids = {answer[0] for answer in answers}
        assert len(pids) == 2
        for pid in pids:
            assert len({answer[1] for answer in answers if answer[0] == pid}) == 1


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_the_worker_forgets_it_when_the_call_has_ended():
    with Server("--processes", "1", command=python_worker("e2e/functions.py")) as server:
        [pid] = server.wait_ready(1)
        with grpc.insecure_channel(server.address) as channel:
            stub = pool_pb2_grpc.PoolServiceStub(channel)
            request = pool_pb2.MapRequest(function="join_bytes", common_blob=b"x" * (20 << 20))
            request.blobs.blobs.append(b"")
            options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
            with grpc.insecure_channel(server.address, options=options) as wide:
                big = pool_pb2_grpc.PoolServiceStub(wide)
                before = resident_kib(pid)
                for _ in range(10):
                    assert len(big.Map(request, timeout=PATIENCE).blobs.blobs[0]) == 20 << 20
            small = pool_pb2.MapRequest(function="echo")
            small.values.append(1)
            stub.Map(small, timeout=PATIENCE)
            # Ten of them would be 200 MiB; buffers of one or two may stay with the allocator.
            wait_until(lambda: resident_kib(pid) - before < 100 << 10, "the memory is given back")
        assert server.stop() == 0
