"""Calls of the native client, against a real server."""

import gc
import json
import pickle
import threading

import pytest
from native_server import wait_until

from procpool import _native


def test_results_are_in_the_order_of_the_items(client):
    for items in ([], [3], range(500), tuple(range(10)), (n for n in range(2000)), [1.5, -0.0, 2**70]):
        items = list(items) if isinstance(items, (list, tuple, range)) else items
        expected = [n**2 for n in items] if isinstance(items, list) else [n**2 for n in range(2000)]
        assert client.start("square", items, codec="pickle").result() == (expected, [])


def test_objects_of_all_kinds_come_back(client):
    items = [None, True, "ä\ud800", b"\0", {"a": [1, (2, {3})]}, complex(1, 2), [], pickle.PickleError, 10**50, "x" * 300]
    assert client.start("echo", items, codec="pickle").result() == (items, [])
    shared = [1]
    ((first, second),), _ = client.start("echo", [[shared, shared]], codec="pickle").result()
    assert first is second


def test_bytes_go_as_they_are(client):
    blobs = [b"", b"a", b"b" * 127, b"c" * 128, bytes(100_000), bytearray(b"d"), memoryview(b"e")]
    results, failures = client.start("echo", blobs, codec="bytes").result()
    assert (results, failures) == ([bytes(blob) for blob in blobs], [])


def test_a_request_may_be_larger_than_a_message(client):
    blobs = [bytes([n]) * (1 << 20) for n in range(100)]
    results, failures = client.start("echo", blobs, codec="bytes").result()
    assert results == blobs
    assert failures == []


def test_the_answer_may_be_larger_than_a_message(client):
    call = client.start("large", [b""] * 80, codec="bytes")
    results, failures = call.result()
    assert [len(result) for result in results] == [1 << 20] * 80
    assert failures == []


def test_json_goes_in_bytes(client):
    call = client.start("power", [b"[2,3]", b"[3,2]"], codec="bytes", star=True, content_type="application/json")
    results, _ = call.result()
    assert [json.loads(result) for result in results] == [8, 9]
    call = client.start("power", [b"[2,5]"], codec="bytes", star=True, content_type="application/json")
    assert json.loads(call.result()[0][0]) == 32


def test_a_common_argument_goes_before_every_item(client):
    for items in ([5], [1, 2, 3]):
        call = client.start("add", items, codec="pickle", common=pickle.dumps(10))
        assert call.result()[0] == [10 + item for item in items]


def test_failures_are_beside_the_results(client):
    results, failures = client.start("square", [2, "x", 3, "y"], codec="pickle").result()
    assert results == [4, None, 9, None]
    assert [failure.index for failure in failures] == [1, 3]
    failure = failures[0]
    assert (failure.kind, failure.type) == ("raised", "TypeError")
    assert failure.message.startswith("unsupported operand")
    assert "in square" in failure.traceback
    assert (failure.data, failure.signal, failure.exit_code, failure.stderr_tail) == (b"", None, None, "")


@pytest.mark.parametrize("items", [["x"], [1, "x", 2]])
def test_a_call_may_fail_with_its_first_failure(client, items):
    with pytest.raises(_native.CallError, match="unsupported operand") as raised:
        client.start("square", items, codec="pickle", fail_fast=True).result()
    assert (raised.value.kind, raised.value.retryable) == ("item_failed", False)
    assert raised.value.failure.index == items.index("x")


def test_a_crash_takes_one_item(client):
    results, failures = client.start("crash_if", [False, True, False], codec="pickle").result()
    assert results == [False, None, False]
    (failure,) = failures
    assert (failure.index, failure.kind, failure.signal, failure.attempt) == (1, "worker_crashed", 9, 1)
    assert failure.pid > 0


def test_an_item_has_a_time_limit(client):
    results, failures = client.start("hang", [1], codec="pickle", item_timeout=0.05).result()
    assert results == [None]
    assert failures[0].kind == "item_timeout"
    assert "hang" in failures[0].traceback


def test_a_call_has_a_deadline(client):
    for items in ([1], [1, 2]):
        with pytest.raises(_native.CallError) as raised:
            client.start("hang", items, codec="pickle", timeout=0.1).result()
        assert raised.value.kind == "deadline_exceeded"


def test_errors_of_the_call_have_a_kind(client):
    with pytest.raises(_native.CallError, match="no_such") as raised:
        client.start("no_such", [1], codec="pickle").result()
    assert raised.value.kind == "function_not_found"
    assert raised.value.failure is None
    with pytest.raises(_native.CallError) as raised:
        client.start("echo", [1, 2], codec="pickle", priority=99).result()
    assert raised.value.kind == "invalid_argument"
    with pytest.raises(_native.CallError) as raised:
        _native.Client("unix:/nonexistent/socket").start("echo", [1], codec="pickle", timeout=0.2).result()
    assert (raised.value.kind, raised.value.retryable) == ("unavailable", True)


def test_wrong_use_is_an_error_at_once(client):
    for target in ("", "localhost", "https://a:1", "unix:"):
        with pytest.raises(_native.ConnectError):
            _native.Client(target)
    with pytest.raises(ValueError, match="no codec"):
        client.start("echo", [1], codec="nonsense")
    with pytest.raises(ValueError, match="nan"):
        client.start("echo", [1], codec="pickle", timeout=float("nan"))
    with pytest.raises(TypeError):
        client.start("echo", 7, codec="pickle")
    with pytest.raises(TypeError):
        client.start("echo", ["text"], codec="bytes")
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.start("echo", [1], codec="pickle")


def test_what_cannot_be_pickled_or_iterated_is_its_own_error(client):
    with pytest.raises(TypeError, match="pickle"):
        client.start("echo", [1, threading.Lock()], codec="pickle")

    def broken():
        yield 1
        raise KeyError("input")

    with pytest.raises(KeyError, match="input"):
        client.start("echo", broken(), codec="pickle")


def test_a_result_that_cannot_be_unpickled_is_a_failure(client):
    results, failures = client.start("not_a_pickle", [1, 2], codec="pickle").result()
    assert results == [None, None]
    assert [failure.kind for failure in failures] == ["result_not_decodable"] * 2
    assert isinstance(failures[0].cause, ModuleNotFoundError)


def test_waiting_has_an_end(client):
    call = client.start("hang", [1], codec="pickle")
    assert call.wait(0) is False
    assert call.wait(0.01) is False
    assert not call.ready()
    call.cancel()
    assert call.ready()
    assert call.wait() is True
    with pytest.raises(_native.CallError, match="cancelled") as raised:
        call.result()
    assert raised.value.kind == "cancelled"
    done = client.start("echo", [1], codec="pickle")
    assert done.wait(float("inf")) is True
    assert done.result() == ([1], [])
    with pytest.raises(RuntimeError, match="handed over"):
        done.result()


@pytest.mark.parametrize("how", ["cancel", "drop", "close and drop"])
def test_a_call_is_cancelled_on_the_server(client, tmp_path, how):
    call = client.start("hang_until_cancelled", [str(tmp_path)], codec="pickle")
    wait_until((tmp_path / "started").exists)
    if how == "cancel":
        call.cancel()
    elif how == "close and drop":
        client.close()
    del call
    gc.collect()
    wait_until((tmp_path / "cancelled").exists)


def test_no_result_waits_for_another(client, tmp_path):
    """The first item ends last: with a window, thousands behind it would wait."""
    path = tmp_path / "go"
    call = client.start("wait_for_file", [str(path), *[None] * 5000], codec="pickle", chunk_size=1)
    probe = client.start("echo", [1], codec="pickle", priority=8)
    assert probe.result() == ([1], [])
    path.touch()
    assert call.result()[0][0] == str(path)


def test_a_queue_tells_what_has_ended(client):
    queue = _native.CompletionQueue()
    assert queue.get(0) is None
    calls = [client.start("square", [n], codec="pickle", queue=queue, token=n) for n in range(20)]
    calls.append(client.start("hang", [1], codec="pickle", queue=queue, token=20))
    tokens = {queue.get(60) for _ in range(20)}
    assert tokens == set(range(20))
    calls[20].cancel()
    assert queue.get(60) == 20
    failing = client.start("no_such", [1], codec="pickle", queue=queue, token=21)
    assert queue.get(60) == 21
    with pytest.raises(_native.CallError):
        failing.result()
    got = []
    thread = threading.Thread(target=lambda: got.append(queue.get(None)))
    thread.start()
    queue.close()
    thread.join()
    assert got == [None]


def test_functions_and_limits(client):
    functions = {function["name"]: function for function in client.list_functions(60)}
    assert "(blob: bytes)" in functions["echo"]["signature"]
    assert functions["hang_until_cancelled"]["doc"].startswith("Say in a folder")
    limits = client.limits(60)
    assert (limits["num_slots"], limits["max_message_bytes"]) == (2, 64 << 20)
    with pytest.raises(_native.CallError):
        _native.Client("unix:/nonexistent/socket").list_functions(60)


def test_many_threads_share_a_client(client):
    wrong = []

    def call(number):
        for n in range(30):
            items = [number, n]
            if client.start("echo", items, codec="pickle").result() != (items, []):
                wrong.append(items)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
