"""Streams of the native client, against a real server."""

import gc
import itertools
import pickle
import threading

import pytest
from native_server import wait_until

from procpool import _native


def feed(stream, items):
    """Send items from a thread, until there are no more or the stream has ended."""

    def send():
        try:
            for item in items:
                stream.send(item)
            stream.finish()
        except _native.Closed:
            pass

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def read(stream, **options):
    while (batch := stream.next(60, **options)) is not None:
        yield from batch


def test_results_come_in_the_order_of_the_items(client):
    stream = client.stream("square", codec="pickle")
    thread = feed(stream, range(5000))
    assert list(read(stream)) == [n**2 for n in range(5000)]
    assert stream.next(0) is None
    thread.join()


def test_unordered_results_have_their_index(client):
    stream = client.stream("square", codec="pickle", ordered=False, chunk_size=3)
    thread = feed(stream, range(3000))
    assert sorted(read(stream)) == [(n, n**2) for n in range(3000)]
    thread.join()


def test_lists_of_items_are_sent_at_once(client):
    stream = client.stream("echo", codec="pickle", window=100)
    thread = threading.Thread(target=lambda: [stream.send_many(list(range(5000))), stream.send_many([]), stream.finish()])
    thread.start()
    assert list(read(stream)) == list(range(5000))
    thread.join()


def test_a_stream_without_items_ends(client):
    stream = client.stream("echo", codec="pickle")
    stream.finish()
    assert stream.next(60) is None
    with pytest.raises(_native.Closed):
        stream.send(1)
    with pytest.raises(_native.Closed):
        stream.room()


def test_failures_are_in_their_places(client):
    stream = client.stream("square", codec="pickle")
    thread = feed(stream, [1, "x", 3])
    results = list(read(stream))
    assert (results[0], results[2], results[1].kind, results[1].index) == (1, 9, "raised", 1)
    thread.join()
    stream = client.stream("crash_if", codec="pickle", ordered=False)
    thread = feed(stream, [False, True])
    results = dict(read(stream))
    assert (results[0], results[1].kind, results[1].signal) == (False, "worker_crashed", 9)
    thread.join()


def test_a_stream_may_end_with_the_first_failure(client):
    stream = client.stream("square", codec="pickle", fail_fast=True)
    thread = feed(stream, itertools.chain([1, "x"], itertools.repeat(2)))
    with pytest.raises(_native.CallError) as raised:
        list(read(stream))
    assert (raised.value.kind, raised.value.failure.index) == ("item_failed", 1)
    thread.join()
    with pytest.raises(_native.Closed):
        stream.send(1)
    assert stream.next(0) is None


def test_errors_of_the_call_are_raised(client):
    stream = client.stream("no_such", codec="pickle")
    with pytest.raises(_native.CallError) as raised:
        stream.next(60)
    assert raised.value.kind == "function_not_found"
    stream = client.stream("hang", codec="pickle", timeout=0.1)
    thread = feed(stream, [1])
    with pytest.raises(_native.CallError) as raised:
        stream.next(60)
    assert raised.value.kind == "deadline_exceeded"
    thread.join()


def test_a_common_argument_and_a_failing_input(client):
    stream = client.stream("add", codec="pickle", common=pickle.dumps(10))
    stream.send(1)
    stream.send(2)
    stream.fail()
    assert list(read(stream)) == [11, 12]


def test_an_item_that_cannot_be_sent_takes_no_place(client):
    stream = client.stream("echo", codec="pickle")
    stream.send(1)
    with pytest.raises(TypeError):
        stream.send(threading.Lock())
    stream.send(2)
    stream.finish()
    assert list(read(stream)) == [1, 2]


def test_waiting_for_results_has_an_end(client):
    stream = client.stream("hang", codec="pickle")
    with pytest.raises(TimeoutError):
        stream.next(0)
    stream.send(1)
    with pytest.raises(TimeoutError):
        stream.next(0.01)
    stream.cancel()
    with pytest.raises(_native.CallError, match="cancelled"):
        stream.next(60)
    with pytest.raises(_native.Closed):
        stream.send(2)


@pytest.mark.parametrize("window", [1, 8])
def test_the_window_is_exact(client, window):
    """No more is taken from an endless input than the window ahead of what the reader has taken."""
    stream = client.stream("echo", codec="pickle", window=window)
    counts, ahead = {"sent": 0, "taken": 0}, []

    def endless():
        while True:
            try:
                room = stream.room()
            except _native.Closed:
                return
            ahead.append(counts["sent"] + room - counts["taken"])
            for _ in range(room):
                yield counts["sent"]
                counts["sent"] += 1

    thread = feed(stream, endless())
    results = []
    while len(results) < 300:
        results += stream.next(60, max_items=1)
        counts["taken"] = len(results)
    stream.cancel()
    thread.join()
    assert results == list(range(300))
    # The reader may have taken one that it has not counted yet.
    assert window <= max(ahead) <= window + 1


def test_a_slow_reader_holds_the_input_back(client):
    stream = client.stream("echo", codec="pickle", window=10)
    num_sent = 0

    def endless():
        nonlocal num_sent
        while True:
            yield num_sent
            num_sent += 1

    thread = feed(stream, endless())
    wait_until(lambda: num_sent == 10)
    with pytest.raises(TimeoutError):
        stream.room(0.1)
    assert num_sent == 10
    taken = []
    while len(taken) < 4:
        taken += stream.next(60, max_items=1)
    wait_until(lambda: num_sent == 14)
    with pytest.raises(TimeoutError):
        stream.room(0.1)
    stream.cancel()
    thread.join()
    assert (taken, num_sent) == ([0, 1, 2, 3], 14)


def test_large_results_wait_for_a_slow_reader(client):
    stream = client.stream("large", codec="bytes", window=100)
    for _ in range(60):
        stream.send(b"")
    stream.finish()
    assert [len(result) for result in read(stream, max_items=3)] == [1 << 20] * 60


def test_large_items_wait_for_a_slow_server(client):
    stream = client.stream("echo", codec="bytes", window=100)
    blobs = [bytes([n]) * (1 << 20) for n in range(40)]
    thread = feed(stream, blobs)
    assert list(read(stream)) == blobs
    thread.join()


def test_max_items_takes_parts_of_a_batch(client):
    stream = client.stream("echo", codec="pickle", ordered=False)
    stream.send_many(list(range(300)))
    stream.finish()
    results = []
    for size in itertools.cycle([1, 7, 2]):
        batch = stream.next(60, max_items=size)
        if batch is None:
            break
        assert 0 < len(batch) <= size
        results += batch
    assert sorted(results) == [(n, n) for n in range(300)]


@pytest.mark.parametrize("how", ["cancel", "drop"])
def test_an_abandoned_stream_is_cancelled_on_the_server(client, tmp_path, how):
    stream = client.stream("hang_until_cancelled", codec="pickle")
    stream.send(str(tmp_path))
    wait_until((tmp_path / "started").exists)
    if how == "cancel":
        stream.cancel()
    del stream
    gc.collect()
    wait_until((tmp_path / "cancelled").exists)


def test_an_endless_stream_may_be_closed_at_any_time(client):
    for n in range(60):
        stream = client.stream("echo", codec="pickle", window=n % 7 + 1)
        thread = feed(stream, itertools.count())
        taken = []
        while len(taken) < n:
            taken += stream.next(60)
        stream.cancel()
        thread.join()
        assert taken == list(range(len(taken)))
    assert client.start("echo", [1], codec="pickle").result() == ([1], [])
