"""A pool of Python workers, as the README starts it."""

import grpc
import pytest
from conftest import Server, call, grpcurl, python_worker, wait_until


def test_map_over_a_python_function_returns_in_order_and_prints_are_log_lines():
    with Server("--processes", "4", command=python_worker("examples/matches.py")) as server:
        pids = server.wait_ready(4)
        [answer] = call(server, "Map", {"function": "analyze_match", "values": list(range(8))})
        assert answer["values"] == [f"Result for Match #{match}: Analysis Clear" for match in range(8)]
        printed = wait_until(lambda: len(found := server.lines("Analyzing match #")) == 8 and found, "8 lines")
        for line in printed:
            assert line["pid"] in pids
            assert line["stream"] == "stdout"
            assert {"worker", "slot", "job"} <= line.keys()
        assert len({line["pid"] for line in printed}) == 4, "every slot had its share"
        assert len({line["job"] for line in printed}) == 1
        assert server.stop() == 0


def test_fail_fast_fails_with_the_index_and_the_traceback(python_server):
    request = {"function": "square_root", "values": [4, 9, -1, 16]}
    code, _, printed = grpcurl(python_server, python_server.address, "procpool.v1.PoolService/Map", data=request)
    assert code != 0
    assert "Code: Unknown" in printed
    assert '"index":"2"' in printed
    assert '"type":"ValueError"' in printed
    assert "matches.py" in printed and "in square_root" in printed


@pytest.fixture(scope="module")
def odd_server():
    with Server("--processes", "2", command=python_worker("e2e/functions.py")) as server:
        server.wait_ready(2)
        yield server


@pytest.mark.parametrize(("function", "name"), [("leave", "SystemExit"), ("interrupt", "KeyboardInterrupt")])
def test_leaving_is_an_error_of_the_item_and_the_worker_lives_on(odd_server, function, name):
    before = sorted(odd_server.workers())
    request = {"function": function, "values": [1, 2], "options": {"onError": "ON_ERROR_COLLECT"}}
    [answer] = call(odd_server, "Map", request)
    assert [error["status"]["message"].split(":")[0] for error in answer["errors"]] == [name, name]
    assert sorted(odd_server.workers()) == before


def test_functions_are_listed_with_signature_and_docstring(odd_server):
    [answer] = call(odd_server, "ListFunctions", {})
    functions = {function["name"]: function for function in answer["functions"]}
    assert functions["echo"]["doc"] == "Return the item."
    assert functions["echo"]["signature"] == "(item)"
    assert "Path" not in functions, "what a module imports is not its own"


def test_keyword_arguments(python_server):
    request = {"function": "power", "values": [2], "kwargs": {"exponent": 3}}
    assert call(python_server, "Apply", request) == [{"value": 8}]


def test_a_module_that_can_not_be_imported_degrades_the_pool_and_says_why():
    with Server("--processes", "2", command=python_worker("no_such_module")) as server:
        wait_until(lambda: server.lines("no worker can be started"), "the pool gives up waiting")
        code, _, printed = grpcurl(
            server, server.address, "procpool.v1.PoolService/Map", data={"function": "f", "values": [1]}
        )
        assert code != 0
        assert "Code: Unavailable" in printed
        assert '"reason":"POOL_DEGRADED"' in printed
        assert "no_such_module" in printed, "the worker's last words are in the message"
        with grpc.insecure_channel(server.address) as channel:
            from grpc_health.v1 import health_pb2, health_pb2_grpc

            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert server.process.poll() is None, "the server stays up"
        assert server.stop() == 0
