"""What comes back: values, errors, and results too large for something."""

import random

import pytest
import worker_pb2
from fake_server import BLOBS, STAR, VALUES, FakeServer, encode_list

NOT_ENCODABLE = worker_pb2.FAILURE_KIND_NOT_ENCODABLE
RAISED = worker_pb2.FAILURE_KIND_RAISED

AWKWARD = [
    None, True, False, 0, 1, -1, 1.5, 2**53 - 1, 1 - 2**53, 1e300, 5e-324, "", "ä€😀", "a\x00b", "x" * 200, [], {}, [[]],
    [None], {"": None}, {"a": {"b": [1, "2", {"c": []}]}}, [1, [2, [3, [4]]]], {"x" * 300: "y" * 300},
]  # fmt: skip


def test_values_come_back_as_they_went(shared_server):
    assert shared_server.values("echo", AWKWARD) == AWKWARD
    for value in AWKWARD:
        assert shared_server.values("echo", [value]) == [value]


def test_whole_numbers_arrive_as_int(shared_server):
    items = [1, 2.0, -0.0, 1.5, 2.0**53 - 1, 2.0**53, 1e300, float("inf")]
    shown = [
        "int 1",
        "int 2",
        "float -0.0",
        "float 1.5",
        f"int {2**53 - 1}",
        f"float {2.0**53}",
        "float 1e+300",
        "float inf",
    ]
    assert shared_server.values("describe_type", items) == shown
    # The same numbers where not all items are numbers.
    assert shared_server.values("describe_type", [*items, "x"]) == [*shown, "str 'x'"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("limit", 2**53 - 1),
        ("point", {"x": 1, "y": {"x": 2, "y": ["red", 3]}}),
        ("pair", {"first": 1, "second": "x"}),
        ("date", "2026-01-02"),
        ("datetime", "2026-01-02T03:04:05+00:00"),
        ("scalar", 2.5),
        ("tuple", [1, [2, 3]]),
        ("range", [0, 1, 2]),
        ("counter", {"a": 2, "b": 1}),
        ("ordered", {"b": 1, "a": 2}),
    ],
)
def test_rich_values_become_plain(shared_server, name, expected):
    assert shared_server.values("produce", [name]) == [expected]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("big", "result: 9007199254740993 is beyond ±(2^53 - 1) and may be rounded; return it as a str"),
        ("small", "result: -9007199254740993 is beyond ±(2^53 - 1)"),
        ("huge", "result: an integer of 16610 bits is beyond ±(2^53 - 1)"),
        ("nan", "result: JSON has no nan; return None instead"),
        ("inf in list", "result[1]['a']: JSON has no -inf"),
        ("set", "result['a'][3]: set cannot be sent; return a list"),
        ("bytes", "result: bytes is not JSON; call with blobs"),
        ("generator", "result: generator cannot be sent; return a list"),
        ("coroutine", "result: coroutine cannot be sent; it was never awaited"),
        ("int keys", "result: a dict with the key 1: keys must be str"),
        ("surrogate", "result: a str with a lone surrogate at 1"),
        ("cyclic", "result[0][0]"),
        ("deep", "result[0][0]"),
        ("decimal", "result: decimal.Decimal cannot be sent; return numbers, text"),
        ("broken", "result: Broken.tolist() raised KeyError: 'nothing here'"),
        ("selfish", "result: functions_for_tests.Selfish cannot be sent"),
        ("object", "result: object cannot be sent"),
        ("class", "result: type cannot be sent"),
    ],
)
def test_what_cannot_be_sent_fails_its_item_and_says_where(shared_server, name, message):
    failure = shared_server.failure("produce", name)
    assert failure.kind == NOT_ENCODABLE
    assert failure.message.startswith(message)
    assert len(failure.message) < 4200


def test_nan_as_null_for_functions_that_ask_for_it(shared_server):
    assert shared_server.values("nan_as_null", ["nan", "list"]) == [None, [1, None, {"a": None}]]
    assert shared_server.failure("nan_as_null", "set").kind == NOT_ENCODABLE


def test_generators_are_refused(shared_server):
    failure = shared_server.failure("generate", 3)
    assert failure.message == "result: generator cannot be sent; return a list, such as list(…)"


@pytest.mark.parametrize(
    ("kind", "type_name", "message"),
    [
        ("value", "ValueError", "bad value"),
        ("exit", "SystemExit", "3"),
        ("interrupt", "KeyboardInterrupt", ""),
        ("generator exit", "GeneratorExit", ""),
        ("stop", "StopIteration", ""),
        ("odd", "functions_for_tests.OddError", "<its message can't be shown: __str__ raised RuntimeError>"),
        ("cancelled", "procpool.Cancelled", ""),
        ("surrogate", "ValueError", "a\\ud800"),
        ("decimal", "decimal.InvalidOperation", "no"),
        ("chained", "LookupError", "outer"),
    ],
)
def test_whatever_is_raised_is_an_error_of_the_item(shared_server, kind, type_name, message):
    failure = shared_server.failure("raise_error", kind)
    assert (failure.kind, failure.type, failure.message) == (RAISED, type_name, message)
    assert failure.traceback.startswith("Traceback (most recent call last):\n")
    assert "functions_for_tests.py" in failure.traceback
    assert "/procpool/worker/" not in failure.traceback
    assert failure.traceback.rstrip().splitlines()[-1].startswith(type_name)


def test_tracebacks_have_their_causes(shared_server):
    traceback = shared_server.failure("raise_error", "chained").traceback
    assert "ValueError: bad value\n\nThe above exception was the direct cause" in traceback
    assert 'raise_error("value")' in traceback


@pytest.mark.parametrize("kind", ["recursion", "many frames", "long"])
def test_tracebacks_and_messages_are_bounded(shared_server, kind):
    failure = shared_server.failure("raise_error", kind)
    assert len(failure.traceback.encode()) <= 64 << 10
    assert len(failure.message.encode()) <= 16 << 10
    assert failure.traceback.startswith("Traceback")
    if kind == "many frames":
        assert failure.traceback.endswith("ZeroDivisionError: division by zero\n")
    if kind == "long":
        assert "bytes left out" in failure.message


def test_failures_stand_at_their_places(shared_server):
    outcome = shared_server.run("fail_on_odd", list(range(100)))
    assert outcome.items == [None if number % 2 else number for number in range(100)]
    assert list(outcome.failures) == list(range(1, 100, 2))
    assert outcome.failures[7].message == "7 is odd"


def test_results_larger_than_the_journal_come_whole(shared_server):
    sizes = [10, 70_000, 10, 60_000, 60_000, 3_000_000, 1]
    outcome = shared_server.run("repeat", [["x", size] for size in sizes], style=STAR)
    assert [len(text) for text in outcome.items] == sizes
    assert not outcome.failures


def test_a_result_larger_than_a_frame_fails_its_item():
    with FakeServer(max_frame_bytes=100_000) as server:
        server.until_ready()
        outcome = server.run("repeat", [["x", size] for size in (10, 99_000, 100_000, 10)], style=STAR)
        assert [item and len(item) for item in outcome.items] == [10, 99_000, None, 10]
        assert outcome.failures[2].kind == NOT_ENCODABLE
        assert "bytes encoded; at most" in outcome.failures[2].message
        # Right at the limit: every frame that is sent must fit.
        for size in range(99_800, 100_000, 7):
            outcome = server.run("repeat", [["x", size]], style=STAR)
            assert all(frame.ByteSize() + 10 < 100_000 for frame in outcome.frames)


def test_numbers_in_bulk_equal_numbers_one_by_one(shared_server):
    rng = random.Random(1)
    for _ in range(20):
        numbers = [
            rng.choice([rng.randint(1 - 2**53, 2**53 - 1), rng.random(), rng.uniform(-1e300, 1e300), -0.0, 0])
            for _ in range(rng.randint(1, 500))
        ]
        bulk = shared_server.values("describe_type", numbers)
        one_by_one = shared_server.values("describe_type", ["", *numbers])[1:]
        assert bulk == one_by_one
        assert shared_server.values("echo", numbers) == numbers


def test_a_large_chunk_comes_back_in_order(shared_server):
    numbers = list(range(100_000))
    assert shared_server.values("echo", numbers) == numbers


def test_random_values_survive_the_round_trip(shared_server):
    rng = random.Random(2)

    def value(depth):
        choice = rng.randrange(7 if depth else 5)
        if choice == 5:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        if choice == 6:
            return {f"k{i}" * rng.randrange(1, 50): value(depth - 1) for i in range(rng.randrange(4))}
        return [None, rng.random() < 0.5, rng.randint(-1000, 1000), rng.random(), "é" * rng.randrange(200)][choice]

    items = [value(4) for _ in range(300)]
    assert shared_server.values("echo", items) == items


def test_a_chunk_of_another_count_is_a_protocol_error():
    for function, items, fields in [
        ("echo", [1, 2], {"encoded": encode_list([1])}),
        ("echo", [b"x"], {"kind": BLOBS, "encoded": b"\x0b"}),
        ("echo", [1], {"kind": 9, "encoded": b""}),
        ("echo", [1], {"kind": VALUES, "style": 9}),
    ]:
        with FakeServer() as server:
            server.until_ready()
            server.start_run(function, items, **fields)
            assert server.receive() is None
            assert server.wait_for_exit() == 70
            assert "the server broke the protocol: " in server.error_output()
