"""Python's grpcio with generated stubs: the same calls as from grpcurl, with the details decoded."""

import threading

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from procpool.v1 import pool_pb2, pool_pb2_grpc

LONG = 30.0


@pytest.fixture(scope="module")
def stub(rust_server):
    with grpc.insecure_channel(rust_server.address) as channel:
        yield pool_pb2_grpc.PoolServiceStub(channel)


def values(*items):
    request = pool_pb2.MapRequest()
    request.values.extend(items)
    return request.values


def details_of(error):
    """Returns the details of a failed call, by the name of their type."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        kind = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])
        message = kind()
        assert detail.Unpack(message)
        found[kind.__name__] = message
    return found


def test_map_and_starmap(stub):
    answer = stub.Map(pool_pb2.MapRequest(function="analyze_match", values=values(1, 2, 3)), timeout=LONG)
    assert list(answer.values) == [f"Result for Match #{match}: Analysis Clear" for match in [1, 2, 3]]
    answer = stub.StarMap(pool_pb2.StarMapRequest(function="power", values=values([2, 10], [3, 3])), timeout=LONG)
    assert list(answer.values) == [1024, 27]


def test_blobs_come_back_as_blobs(stub):
    blobs = pool_pb2.BlobList(blobs=[b"1", b'{"a":[2]}'])
    request = pool_pb2.MapRequest(function="echo", blobs=blobs, content_type="application/json")
    assert [bytes(blob) for blob in stub.Map(request, timeout=LONG).blobs.blobs] == [b"1", b'{"a":[2]}']


def test_imap_streams_in_order(stub):
    request = pool_pb2.IMapRequest(function="echo", values=values(*range(1000)))
    results = [result for message in stub.IMap(request, timeout=LONG) for result in message.values]
    assert results == list(range(1000))


def test_imap_stream_is_lazy_on_both_sides(stub):
    """Items are sent one by one, each only after the result of the one before."""
    next_item = threading.Semaphore(1)

    def requests():
        yield pool_pb2.IMapStreamRequest(config=pool_pb2.IMapStreamConfig(function="echo"))
        for item in range(20):
            assert next_item.acquire(timeout=LONG)
            yield pool_pb2.IMapStreamRequest(values=values(item))

    results = []
    for message in stub.IMapStream(requests(), timeout=LONG):
        for result in message.values:
            results.append(result)
            next_item.release()
    assert results == list(range(20))


def test_unknown_function(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Map(pool_pb2.MapRequest(function="analyse_match", values=values(1)), timeout=LONG)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    info = details_of(caught.value)["ErrorInfo"]
    assert (info.domain, info.reason) == ("procpool", "FUNCTION_NOT_FOUND")
    assert "analyze_match" in caught.value.details()


def test_starmap_item_that_is_no_list(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.StarMap(pool_pb2.StarMapRequest(function="power", values=values([2, 1], 3)), timeout=LONG)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    details = details_of(caught.value)
    assert details["ErrorInfo"].reason == "INVALID_ITEM"
    assert [violation.field for violation in details["BadRequest"].field_violations] == ["values[1]"]


def test_function_that_raises(python_server):
    with grpc.insecure_channel(python_server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        request = pool_pb2.MapRequest(function="square_root", values=values(-1))
        pool_pb2_grpc.PoolServiceStub(channel).Map(request, timeout=LONG)
    assert caught.value.code() == grpc.StatusCode.UNKNOWN
    details = details_of(caught.value)
    assert details["ErrorInfo"].reason == "FUNCTION_RAISED"
    assert details["ErrorInfo"].metadata["index"] == "0"
    assert details["ErrorInfo"].metadata["type"] == "ValueError"
    assert any("in square_root" in line for line in details["DebugInfo"].stack_entries), "the remote traceback"


def test_deadline_on_unary_and_stream(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Map(pool_pb2.MapRequest(function="sleep_ms", values=values(5000)), timeout=0.3)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    stream = stub.IMap(pool_pb2.IMapRequest(function="sleep_ms", values=values(1, 5000)), timeout=0.5)
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_health(rust_server):
    with grpc.insecure_channel(rust_server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ["", "procpool.v1.PoolService"]:
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=LONG)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
