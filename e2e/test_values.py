"""Awkward values keep their meaning or fail, with every client: what becomes of what it sends and is sent."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from conftest import PATIENCE, PROCPOOL, ROOT, Server, as_doubles, grpcurl, is_same, parse_messages, plain, python_worker
from google.rpc import error_details_pb2, status_pb2
from procpool.v1 import pool_pb2, pool_pb2_grpc

JSON = "application/json"
BIG = 2**53 + 1
HUGE = 2**70 + 1
NAN = float("nan")
NESTED = {"a": [1, {"b": None, "c": [[], {}]}], "": ""}
LONG_BYTES = b"\x00\xff" * 1000


class Failed(str):
    """The reason of an item that failed; REFUSED if the client did not send it."""


INVALID, NOT_ENCODABLE, REFUSED = Failed("INVALID_ITEM"), Failed("RESULT_NOT_ENCODABLE"), Failed("REFUSED")


@dataclass
class Row:
    """What becomes of a value."""

    sent: Any
    """The item, as JSON would write it; or the function and its arguments that return the value, by worker."""
    values: Any
    """What comes back among values."""
    json: Any
    """What comes back in a blob of JSON."""
    but: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """What comes back elsewhere: by client, encoding and worker; the first that fits."""


# How clients differ; what the workers make of each value is in items/tests/values.json.
#
# Numbers among values are doubles, so whole ones are ints to whoever reads JSON. Libraries of others round what they
# are given before we see it; ours refuses.
ITEMS = {
    "1": Row("1", 1, 1),
    "1.0": Row("1.0", 1, 1.0),
    "1.5": Row("1.5", 1.5, 1.5),
    # grpcurl prints it without a point, as an int.
    "-0.0": Row("-0.0", -0.0, -0.0, {("grpcurl", "values"): 0}),
    "1e300": Row("1e300", 1e300, 1e300),
    "2^53 - 1": Row(str(2**53 - 1), 2**53 - 1, 2**53 - 1),
    # grpcurl prints doubles of any size without a point.
    "2^53": Row(str(2**53), float(2**53), 2**53, {("grpcurl", "values"): 2**53, ("procpool", "values"): REFUSED}),
    "2^53 + 1": Row(str(BIG), float(2**53), BIG, {("grpcurl", "values"): 2**53, ("procpool", "values"): REFUSED}),
    "2^70 + 1": Row(str(HUGE), float(2**70), HUGE, {("procpool", "values"): REFUSED, ("json", "rust"): INVALID}),
    "NaN": Row(
        "NaN",
        NOT_ENCODABLE,
        INVALID,
        {("grpcurl", "values"): REFUSED, ("procpool",): REFUSED, ("values", "rust"): INVALID},
    ),
    "null": Row("null", None, None),
    "true": Row("true", True, True),
    "empty text": Row('""', "", ""),
    "text": Row('"ünï\\u0000"', "ünï\0", "ünï\0"),
    "empty list": Row("[]", [], []),
    "empty object": Row("{}", {}, {}),
    "nested": Row(json.dumps(NESTED), NESTED, NESTED),
}


def made(python: str, rust: tuple[str, list] | None) -> dict[str, tuple[str, list] | None]:
    return {"python": ("make", [python]), "rust": rust}


# 1 + … + n, a whole number that no double is.
NO_DOUBLE = 134217729
SUM = NO_DOUBLE * (NO_DOUBLE + 1) // 2
RESULTS = {
    "1": Row(made("one", ("sum_to", [1])), 1, 1),
    "1.0": Row(made("float", ("power", [1, 1])), 1, 1.0),
    "beyond 2^53": Row(made("big", ("sum_to", [NO_DOUBLE])), NOT_ENCODABLE, BIG, {("json", "rust"): SUM}),
    "beyond 2^64": Row(made("huge", None), NOT_ENCODABLE, HUGE),
    "NaN": Row(made("nan", ("power", [-1, 0.5])), NOT_ENCODABLE, NOT_ENCODABLE),
    "infinity": Row(made("infinity", ("power", [0, -1])), NOT_ENCODABLE, NOT_ENCODABLE),
    "null": Row(made("none", ("lookup", [{}, "a"])), None, None),
    "nested": Row(made("nested", ("lookup", [{"a": NESTED}, "a"])), NESTED, NESTED),
    "empty object": Row(made("empty", ("lookup", [{"a": {}}, "a"])), {}, {}),
    "empty list": Row(made("empty_list", ("lookup", [{"a": []}, "a"])), [], []),
    "bytes": Row(made("bytes", None), NOT_ENCODABLE, NOT_ENCODABLE),
    "set": Row(made("set", None), NOT_ENCODABLE, NOT_ENCODABLE),
}


def reason_of(status: status_pb2.Status) -> Failed:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return Failed(info.reason)


class Grpcurl:
    """grpcurl: what is no JSON it can't send."""

    name = "grpcurl"

    def call(self, server: Server, method: str, function: str, encoding: str, items: list[str]) -> list[Any]:
        if encoding == "values":
            list_of_items = f'"values":[{",".join(items)}]'
        else:
            blobs = [base64.b64encode(item.encode()).decode() for item in items]
            list_of_items = f'"contentType":"{JSON}","blobs":{{"blobs":{json.dumps(blobs)}}}'
        request = f'{{"function":"{function}","options":{{"onError":"ON_ERROR_COLLECT"}},{list_of_items}}}'
        code, out, err = grpcurl(server, server.address, f"procpool.v1.PoolService/{method}", data=request)
        if code != 0:
            assert "Error invoking method" in err, err
            return [REFUSED] * len(items)
        [answer] = parse_messages(out)
        results = answer["values"] if encoding == "values" else map(unpack_blob, answer["blobs"]["blobs"])
        errors = answer.get("errors", [])
        failed = {int(error.get("index", 0)): error["status"]["details"][0]["reason"] for error in errors}
        return [Failed(failed[index]) if index in failed else result for index, result in enumerate(results)]


def unpack_blob(blob: str) -> Any:
    return json.loads(base64.b64decode(blob) or "null")


class Grpcio:
    """Python's grpcio with generated stubs; numbers are the doubles of the wire."""

    name = "grpcio"

    def call(self, server: Server, method: str, function: str, encoding: str, items: list[str]) -> list[Any]:
        request = getattr(pool_pb2, f"{method}Request")(function=function, options={"on_error": "ON_ERROR_COLLECT"})
        if encoding == "values":
            request.values.extend(map(json.loads, items))
        else:
            request.content_type = JSON
            request.blobs.blobs.extend(item.encode() for item in items)
        with grpc.insecure_channel(server.address) as channel:
            answer = getattr(pool_pb2_grpc.PoolServiceStub(channel), method)(request, timeout=PATIENCE)
        if encoding == "values":
            results = [plain(value) for value in answer.values.values]
        else:
            results = [json.loads(blob or "null") for blob in answer.blobs.blobs]
        for error in answer.errors:
            results[error.index] = reason_of(error.status)
        return results


class Procpool:
    """Our own client, from the command line: what it can't send as it is, it refuses."""

    name = "procpool"

    def call(self, server: Server, method: str, function: str, encoding: str, items: list[str]) -> list[Any]:
        line = [PROCPOOL, method.lower(), "--server", f"http://{server.address}", "--output", "json", function]
        line += ["--json"] * (encoding == "json") + ["--", *items]
        environment = {**os.environ, "NO_COLOR": "1"}
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment)
        if done.returncode not in (0, 1):
            assert (done.returncode, done.stdout) == (2, ""), done
            return [REFUSED] * len(items)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return [line["result"] if line["status"] == "ok" else Failed(line["error"]["reason"]) for line in lines]


def outcome_of(row: Row, client: str, encoding: str, worker: str) -> Any:
    """Returns what a row says of a case."""
    case = {client, encoding, worker}
    for who, outcome in row.but.items():
        if set(who) <= case:
            return outcome
    outcome = row.values if encoding == "values" else row.json
    return as_doubles(outcome) if (client, encoding) == ("grpcio", "values") else outcome


@pytest.fixture(scope="module")
def python_values():
    with Server("--processes", "1", command=python_worker("e2e/functions.py")) as server:
        server.wait_ready(1)
        yield server


@pytest.fixture(params=["rust", "python"])
def worker(request, rust_server, python_values):
    return request.param, rust_server if request.param == "rust" else python_values


@pytest.mark.parametrize("encoding", ["values", "json"])
@pytest.mark.parametrize("client", [Grpcurl(), Grpcio(), Procpool()], ids=lambda client: client.name)
def test_items_come_back_as_they_were_or_fail_alone(client, worker, encoding):
    kind, server = worker
    expected = {name: outcome_of(row, client.name, encoding, kind) for name, row in ITEMS.items()}
    refused = [name for name in ITEMS if expected[name] is REFUSED]
    sent = [name for name in ITEMS if name not in refused]
    found = dict(zip(sent, client.call(server, "Map", "echo", encoding, [ITEMS[name].sent for name in sent])))
    # One item that the client refuses is the end of its whole call.
    for name in refused:
        [found[name]] = client.call(server, "Map", "echo", encoding, [ITEMS[name].sent])
    assert {name: (found[name], wanted) for name, wanted in expected.items() if not is_same(found[name], wanted)} == {}


@pytest.mark.parametrize("encoding", ["values", "json"])
@pytest.mark.parametrize("client", [Grpcurl(), Grpcio(), Procpool()], ids=lambda client: client.name)
def test_results_keep_their_meaning_or_fail_alone(client, worker, encoding):
    kind, server = worker
    rows = {name: row for name, row in RESULTS.items() if row.sent[kind]}
    found = {}
    for function in {row.sent[kind][0] for row in rows.values()}:
        names = [name for name, row in rows.items() if row.sent[kind][0] == function]
        items = [json.dumps(rows[name].sent[kind][1]) for name in names]
        found |= dict(zip(names, client.call(server, "StarMap", function, encoding, items)))
    expected = {name: outcome_of(row, client.name, encoding, kind) for name, row in rows.items()}
    assert {name: (found[name], wanted) for name, wanted in expected.items() if not is_same(found[name], wanted)} == {}


@pytest.mark.parametrize("client", [Grpcurl(), Grpcio(), Procpool()], ids=lambda client: client.name)
def test_what_type_a_number_has_in_python_is_for_the_encoding_to_say(client, python_values):
    items = ["1", "1.0", "1.5", "null", "true", "[1]", "{}"]
    kinds = client.call(python_values, "Map", "kind", "values", items)
    assert kinds == ["int", "int", "float", "NoneType", "bool", "list", "dict"]
    kinds = client.call(python_values, "Map", "kind", "json", items)
    assert kinds == ["int", "float", "float", "NoneType", "bool", "list", "dict"]


def test_grpcurl_rounds_a_large_integer_and_the_function_gets_a_float_as_the_readme_says(python_values):
    request = f'{{"function":"kind","values":[{BIG}, {2**53 - 1}]}}'
    code, out, err = grpcurl(python_values, python_values.address, "procpool.v1.PoolService/Map", data=request)
    assert code == 0, err
    assert parse_messages(out) == [{"values": ["float", "int"]}]
    readme = (ROOT / "README.md").read_text()
    assert f"`{float(2**53)}`" in readme
    assert str(BIG) in readme


def test_an_empty_value_is_refused_and_named(worker):
    with grpc.insecure_channel(worker[1].address) as channel:
        request = pool_pb2.MapRequest(function="echo")
        request.values.values.add(number_value=1)
        request.values.values.add()
        with pytest.raises(grpc.RpcError) as caught:
            pool_pb2_grpc.PoolServiceStub(channel).Map(request, timeout=PATIENCE)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "values[1]" in caught.value.details()


@pytest.mark.parametrize("blob", [b"", b"{}", LONG_BYTES], ids=["empty", "like JSON", "long"])
def test_bytes_travel_as_blobs(worker, blob):
    kind, server = worker
    function = {"python": "echo", "rust": "echo_bytes"}[kind]
    with grpc.insecure_channel(server.address) as channel:
        request = pool_pb2.MapRequest(function=function, blobs=pool_pb2.BlobList(blobs=[blob, b"next"]))
        answer = pool_pb2_grpc.PoolServiceStub(channel).Map(request, timeout=PATIENCE)
    assert list(answer.blobs.blobs) == [blob, b"next"]
    blobs = [base64.b64encode(item).decode() for item in (blob, b"next")]
    request = json.dumps({"function": function, "blobs": {"blobs": blobs}})
    code, out, err = grpcurl(server, server.address, "procpool.v1.PoolService/Map", data=request)
    assert code == 0, err
    assert parse_messages(out)[0]["blobs"]["blobs"] == blobs
