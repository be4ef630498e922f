"""Awkward values keep their meaning: through grpcurl, Python and Rust, with Python and Rust workers."""

import json
import os
import subprocess

import grpc
import pytest
from conftest import PROCPOOL, Server, grpcurl, parse_messages, python_worker
from google.protobuf.json_format import MessageToDict, ParseDict
from procpool.v1 import pool_pb2, pool_pb2_grpc

BIG = 2**53 + 1


@pytest.fixture(scope="module")
def python_values():
    with Server("--processes", "1", command=python_worker("e2e/functions.py")) as server:
        server.wait_ready(1)
        yield server


@pytest.fixture(scope="module", params=["rust workers", "python workers"])
def server(request, rust_server, python_values):
    return rust_server if request.param == "rust workers" else python_values


def through_grpcurl(server, function, items):
    """Returns the results, or the text of the error."""
    code, out, err = grpcurl(
        server, server.address, "procpool.v1.PoolService/Map", data={"function": function, "values": items}
    )
    return parse_messages(out)[0]["values"] if code == 0 else err


def through_python(server, function, items):
    with grpc.insecure_channel(server.address) as channel:
        request = ParseDict({"function": function, "values": items}, pool_pb2.MapRequest())
        try:
            answer = pool_pb2_grpc.PoolServiceStub(channel).Map(request, timeout=30)
        except grpc.RpcError as error:
            return error.details()
        return MessageToDict(answer)["values"]


def through_rust(server, function, items):
    done = subprocess.run(
        [PROCPOOL, "map", "--server", f"http://{server.address}", function, *map(json.dumps, items)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NO_COLOR": "1"},
    )
    return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else done.stderr


CLIENTS = [through_grpcurl, through_python, through_rust]
SAME = [1, 1.0, 1.5, -0.0, 2**53, -(2**53), 1e300, True, False, None, "", "text", "ünï\u0000", [], {}, [[]]]
NESTED = [{"a": [1, {"b": None, "c": [[], {}]}], "": ""}, [None, [None]]]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_json_can_say_comes_back_as_it_was(server, client):
    items = SAME + NESTED
    results = client(server, "echo", items)
    assert results == items
    # In Python, 1 == 1.0 == True.
    assert [isinstance(result, bool) for result in results] == [isinstance(item, bool) for item in items]


def test_the_rust_client_refuses_an_integer_that_a_double_can_not_hold(server):
    assert "2^53" in through_rust(server, "echo", [BIG])


@pytest.mark.parametrize("client", CLIENTS)
def test_an_integer_beyond_doubles_is_an_error_and_never_rounded(python_values, client):
    error = client(python_values, "make", ["big"])
    assert isinstance(error, str)
    assert "9007199254740993" in error or "2**53" in error or "2^53" in error


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("what", "words"), [("nan", "nan"), ("set", "set"), ("bytes", "bytes")])
def test_results_that_can_not_be_sent_fail_alone_and_say_why(python_values, client, what, words):
    error = client(python_values, "make", [what])
    assert isinstance(error, str)
    assert words in error.lower()
    assert client(python_values, "make", ["none", "one", "nested", "empty"]) == [
        None,
        1,
        {"a": [1, {"b": None}], "c": ""},
        {},
    ], "the worker lives on"


@pytest.mark.parametrize("client", CLIENTS)
def test_integral_doubles_are_integers_to_python(python_values, client):
    assert client(python_values, "kind", [1, 1.0, 1.5, None, True, [1], {}]) == [
        "int",
        "int",
        "float",
        "NoneType",
        "bool",
        "list",
        "dict",
    ]


def test_nan_fails_alone_and_never_becomes_null(server):
    with grpc.insecure_channel(server.address) as channel:
        stub = pool_pb2_grpc.PoolServiceStub(channel)
        request = pool_pb2.MapRequest(function="echo", options={"on_error": "ON_ERROR_COLLECT"})
        request.values.extend([float("nan"), 1])
        answer = stub.Map(request, timeout=30)
        assert [error.index for error in answer.errors] == [0]
        assert list(answer.values) == [None, 1]


def test_an_empty_value_is_refused_and_named(server):
    with grpc.insecure_channel(server.address) as channel:
        request = pool_pb2.MapRequest(function="echo")
        request.values.values.add(number_value=1)
        request.values.values.add()
        with pytest.raises(grpc.RpcError) as caught:
            pool_pb2_grpc.PoolServiceStub(channel).Map(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "values[1]" in caught.value.details()


@pytest.mark.parametrize("blob", [b"", b"\x00\xff" * 1000, b"{}"])
def test_bytes_travel_as_blobs(python_values, blob):
    with grpc.insecure_channel(python_values.address) as channel:
        request = pool_pb2.MapRequest(function="echo", blobs=pool_pb2.BlobList(blobs=[blob, b"next"]))
        answer = pool_pb2_grpc.PoolServiceStub(channel).Map(request, timeout=30)
    assert list(answer.blobs.blobs) == [blob, b"next"]
