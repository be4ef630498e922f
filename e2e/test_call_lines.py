"""What the log says of calls: who made them, and nothing that is the users' business. And calls that an item makes."""

import grpc
import pytest
from conftest import PATIENCE, Server, call, python_worker, wait_until
from procpool.v1 import pool_pb2, pool_pb2_grpc

FUNCTIONS = python_worker("e2e/functions.py")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
METADATA = [("x-request-id", "order-17"), ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")]


def send(server, function, value):
    with grpc.insecure_channel(server.address) as channel:
        request = pool_pb2.MapRequest(function=function)
        request.values.extend([value])
        return pool_pb2_grpc.PoolServiceStub(channel).Map(request, timeout=PATIENCE, metadata=METADATA)


def test_a_failed_call_says_who_made_it_and_not_what_its_function_said():
    with Server("--processes", "1", command=FUNCTIONS) as server:
        with pytest.raises(grpc.RpcError) as caught:
            send(server, "make", "a secret of the user")
        assert "a secret of the user" in caught.value.details(), "its caller is told"
        [line] = wait_until(lambda: server.lines("call failed"), "the call has a line")
        assert line["reason"] == "FUNCTION_RAISED" and line["error"] == "KeyError (item 0)"
        assert (line["request_id"], line["trace_id"], line["job"]) == ("order-17", TRACE, 1)
        assert line["peer"].startswith("127.0.0.1:")
        assert not server.lines("call finished")
        assert not any("secret" in str(entry) for entry in server.log)


def test_all_calls_have_lines_on_request():
    with Server("--processes", "1", "--log-calls", "all", command=FUNCTIONS) as server:
        send(server, "echo", 1)
        [line] = wait_until(lambda: server.lines("call finished"), "the call has a line")
        assert (line["function"], line["request_id"], line["items"], line["job"]) == ("echo", "order-17", 1, 1)


def test_failed_calls_cannot_flood_the_log():
    with Server("--processes", "1", command=FUNCTIONS) as server, grpc.insecure_channel(server.address) as channel:
        stub = pool_pb2_grpc.PoolServiceStub(channel)
        request = pool_pb2.MapRequest(function="missing")
        request.values.extend([1])
        requests = [stub.Map.future(request, timeout=PATIENCE) for _ in range(3000)]
        assert all(request.exception(timeout=PATIENCE) for request in requests)
        [dropped, *_] = wait_until(lambda: server.lines("have no line in the log"), "it says what was left out")
        assert dropped["num_dropped"] > 0


def test_an_item_that_calls_its_own_pool_is_refused():
    with Server("--processes", "1", command=FUNCTIONS) as server:
        [answer] = call(server, "Map", {"function": "call_back", "values": [f"http://{server.address}"]})
        assert "is itself an item of the pool" in answer["values"][0]
