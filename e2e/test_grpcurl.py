"""What grpcurl sees, with no .proto file at hand."""

import pytest
from conftest import PATIENCE, Server, call, grpcurl


def test_reflection_lists_the_services_and_describes_them(rust_server):
    code, out, err = grpcurl(rust_server, rust_server.address, "list")
    assert code == 0, err
    assert "procpool.v1.PoolService" in out.split()
    assert "grpc.health.v1.Health" in out.split()
    code, out, err = grpcurl(rust_server, rust_server.address, "describe", "procpool.v1.PoolService")
    assert code == 0, err
    assert "rpc IMapStream (" in out
    code, out, err = grpcurl(rust_server, rust_server.address, "describe", "procpool.v1.MapRequest")
    assert ".google.protobuf.ListValue values = 2" in out, "what is served is the public contract"


def methods_of(server, service):
    """Returns the methods that a service lists, `DrainPool` last: nothing answers after it."""
    code, out, err = grpcurl(server, server.address, "list", f"procpool.v1.{service}")
    assert code == 0, err
    return sorted(out.split(), key=lambda method: (method.endswith(".DrainPool"), method))


def test_every_method_that_is_listed_is_served():
    with Server("--processes", "1") as server:
        server.wait_ready(1)
        for method in methods_of(server, "PoolService") + methods_of(server, "PoolAdminService"):
            code, out, err = grpcurl(server, server.address, method, data={}, deadline=2)
            # A watcher has its first message; what an empty request is refused for has a reason.
            assert code == 0 or out or "google.rpc.ErrorInfo" in err, (method, code, err)
        assert server.process.wait(timeout=PATIENCE) == 0, "DrainPool was the last"


def test_where_nobody_operates_no_method_of_operators_is_served():
    with Server("--processes", "1", "--operators", "nobody") as server:
        for method in methods_of(server, "PoolAdminService"):
            code, out, err = grpcurl(server, server.address, method, data={})
            assert code != 0 and not out and "PermissionDenied" in err and "NOT_AN_OPERATOR" in err, (method, err)


def test_map_prints_plain_results_in_order(rust_server):
    [answer] = call(rust_server, "Map", {"function": "analyze_match", "values": [1, 2, 3]})
    assert answer == {"values": [f"Result for Match #{match}: Analysis Clear" for match in [1, 2, 3]]}


def test_starmap_takes_lists(rust_server):
    [answer] = call(rust_server, "StarMap", {"function": "power", "values": [[2, 10], [3, 3]]})
    assert answer == {"values": [1024, 27]}


def test_apply_takes_arguments(rust_server):
    assert call(rust_server, "Apply", {"function": "power", "values": [2, 5]}) == [{"value": 32}]


@pytest.mark.parametrize("order", ["RESULT_ORDER_ORDERED", "RESULT_ORDER_UNORDERED"])
def test_imap_streams(rust_server, order):
    messages = call(rust_server, "IMap", {"function": "is_prime", "values": list(range(50)), "order": order})
    results = {}
    for message in messages:
        values = message["values"]
        first = int(message.get("firstIndex", 0))
        indexes = [int(index) for index in message.get("indexes", [])] or range(first, first + len(values))
        assert "indexes" not in message or "firstIndex" not in message, "either names them all or the first"
        assert len(indexes) == len(values)
        results.update(zip(indexes, values, strict=True))
    assert [n for n in range(50) if results[n]] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47]
    assert len(results) == 50


def test_an_empty_list_gives_an_empty_list(rust_server):
    assert call(rust_server, "Map", {"function": "echo", "values": []}) == [{"values": []}]


def test_list_functions_gives_an_example_that_works(rust_server):
    [answer] = call(rust_server, "ListFunctions", {})
    functions = {function["name"]: function for function in answer["functions"]}
    assert functions["analyze_match"]["doc"]
    method = "StarMap" if "[[" in functions["power"]["example"] else "Map"
    code, out, err = grpcurl(
        rust_server, rust_server.address, f"procpool.v1.PoolService/{method}", data=functions["power"]["example"]
    )
    assert code == 0, err
    assert '"values"' in out
    assert answer["limits"]["numSlots"] == 2


ERRORS = [
    ("Map", {"function": "analyse_match", "values": [1]}, "NotFound", "FUNCTION_NOT_FOUND", "analyze_match"),
    ("StarMap", {"function": "power", "values": [[2, 1], 3]}, "InvalidArgument", "INVALID_ITEM", "values[1]"),
    ("Map", {"function": "fail", "values": ["on purpose"]}, "Unknown", "FUNCTION_RAISED", "on purpose"),
    ("Map", {"values": [1]}, "InvalidArgument", "INVALID_ARGUMENT", "function"),
    (
        "Map",
        {"function": "echo", "values": [1], "options": {"chunkSize": 1_000_001}},
        "InvalidArgument",
        "INVALID_ARGUMENT",
        "options.chunk_size",
    ),
]


@pytest.mark.parametrize(("method", "data", "code", "reason", "detail"), ERRORS, ids=[row[3] + row[0] for row in ERRORS])
def test_errors_have_code_reason_and_details(rust_server, method, data, code, reason, detail):
    status, _, printed = grpcurl(rust_server, rust_server.address, f"procpool.v1.PoolService/{method}", data=data)
    assert status != 0
    assert f"Code: {code}" in printed
    assert f'"reason":"{reason}"' in printed, "reflection serves the details, so grpcurl prints them"
    assert '"domain":"procpool"' in printed
    assert detail in printed


def test_collect_returns_results_and_errors_side_by_side(python_server):
    request = {"function": "square_root", "values": [4, -1, 9], "options": {"onError": "ON_ERROR_COLLECT"}}
    [answer] = call(python_server, "Map", request)
    assert answer["values"] == [2, None, 3]
    [error] = answer["errors"]
    assert error["index"] == "1"
    assert error["status"]["code"] == 2
    assert "ValueError: -1 has no real square root" in error["status"]["message"]
    assert "in square_root" in str(error["status"]["details"]), "the traceback travels"
