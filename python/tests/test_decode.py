"""An item begins before it is decoded: what goes wrong there is its own failure, and it can be ended as it can later."""

import pytest
import worker_pb2
from fake_server import BLOBS, FUNCTIONS, FakeServer, encode_blobs
from test_cancel import cancel
from test_common import drop_common, names, send_common

JSON = {"kind": BLOBS, "content_type": "application/json"}
# In Python it takes ten times its length, even if other languages can do better.
HUGE = b"[" + b"[]," * 4_000_000 + b"[]]"
LITTLE_MEMORY = 100 << 20


def test_an_item_that_takes_too_much_memory_fails_alone(server):
    server.values("leave_memory", [LITTLE_MEMORY])
    outcome = server.run("no_op", [b"1", HUGE, b"2"], **JSON)
    assert (outcome.items[0], outcome.items[2]) == (b"1", b"2")
    failure = outcome.failures.pop(1)
    assert failure.kind == worker_pb2.FAILURE_KIND_INVALID_ITEM
    assert failure.message == "the item can't be decoded: MemoryError"
    assert not outcome.failures
    assert server.values("echo", [1]) == [1]


def test_a_common_argument_that_takes_too_much_memory_fails_its_items(server):
    server.values("leave_memory", [LITTLE_MEMORY])
    name = send_common(server, HUGE, kind=BLOBS, content_type="application/json")
    outcome = server.run("pair", [1, 2], common=name)
    assert list(outcome.failures) == [0, 1]
    for failure in outcome.failures.values():
        assert (failure.kind, failure.part) == (worker_pb2.FAILURE_KIND_INVALID_ITEM, worker_pb2.CALL_PART_COMMON)
        assert failure.message == "`common` can't be decoded: MemoryError"
    drop_common(server, name)
    assert server.values("echo", [1]) == [1]


def test_arguments_that_take_too_much_memory_fail_the_call(server):
    server.values("leave_memory", [LITTLE_MEMORY])
    outcome = server.finish(server.start_apply("no_op", [HUGE], {}, **JSON))
    assert outcome.failures[0].message == "the arguments can't be decoded: MemoryError"
    assert server.values("echo", [1]) == [1]


@pytest.mark.parametrize("journal_bytes", [64 << 10, 0])
@pytest.mark.parametrize("is_common", [False, True])
def test_a_worker_that_dies_while_it_decodes_dies_of_that_item(journal_bytes, is_common):
    with FakeServer(FUNCTIONS, journal_bytes=journal_bytes) as server:
        server.until_ready()
        if is_common:
            common = send_common(server, HUGE, kind=BLOBS, content_type="application/json")
        # Far more than it takes to receive the item, and less than to decode it.
        armed = server.start_run("end_after_computing", [0.1])
        if not journal_bytes:
            server.expect("started")
        server.finish(armed)
        if is_common:
            run = server.start_run("pair", [0, 1], common=common)
        else:
            run = server.start_run("no_op", [HUGE, b"1"], **JSON)
        begun = []
        while (frame := server.receive()) is not None:
            assert frame.WhichOneof("frame") == "started"
            begun.append(frame.started.offset)
        if journal_bytes:
            begun = [server.word(0) - run.first_sequence]
        assert begun == [0]


def varint(number):
    encoded = b""
    while number >= 0x80:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


# Texts of one character, which take a moment each and hardly any memory.
NUM_MANY = 12_000_000
MANY = b"\x32" + varint(5 * NUM_MANY) + b"\x0a\x03\x1a\x01x" * NUM_MANY


def test_an_item_that_is_being_decoded_can_be_cancelled(server):
    run = server.start_run("no_op", [None], encoded=encode_blobs([MANY]))
    while server.word(0) != run.first_sequence:
        pass
    cancel(server, run)
    assert server.expect("recalled").first_not_begun == 1
    failure = server.finish(run).failures[0]
    assert (failure.kind, failure.type) == (worker_pb2.FAILURE_KIND_RAISED, "procpool.Cancelled")
    assert server.values("echo", [1]) == [1]


def test_a_common_argument_that_was_cancelled_is_decoded_by_the_next_item(server):
    name = next(names)
    server.send(set_common=worker_pb2.SetCommon(common=name, kind=worker_pb2.ITEM_KIND_VALUES, value=MANY))
    run = server.start_run("num_common", [0], common=name)
    while server.word(0) != run.first_sequence:
        pass
    cancel(server, run)
    server.expect("recalled")
    assert server.finish(run).failures[0].type == "procpool.Cancelled"
    assert server.values("num_common", [1], common=name) == [NUM_MANY]
