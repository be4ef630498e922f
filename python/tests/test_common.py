"""The argument that all items of a call share: decoded once, passed first, kept until it is dropped."""

import itertools
import json

import pytest
import worker_pb2
from fake_server import BLOBS, STAR, VALUES, FakeServer, decode_blobs, encode_blobs, encode_list

names = itertools.count(1)


def encode_value(value):
    # A record of a list is encoded as a blob of one.
    (encoded,) = decode_blobs(encode_list([value]))
    return encoded


def send_common(server, value, *, kind=VALUES, content_type=""):
    """Send a common argument; return its name."""
    name = next(names)
    encoded = encode_value(value) if kind == VALUES else value
    server.send(set_common=worker_pb2.SetCommon(common=name, kind=kind, content_type=content_type, value=encoded))
    return name


def drop_common(server, name):
    server.send(drop_common=worker_pb2.DropCommon(common=name))


def test_hello_says_that_it_takes_one(shared_server):
    assert shared_server.hello.takes_common


def test_it_goes_before_the_item(shared_server):
    name = send_common(shared_server, {"a": [1, None]})
    assert shared_server.values("pair", [1, "x"], common=name) == [[{"a": [1, None]}, 1], [{"a": [1, None]}, "x"]]
    separator = send_common(shared_server, "-")
    assert shared_server.values("join_with", [["a", "b"]], style=STAR, common=separator) == ["a-b"]
    assert shared_server.values("pair", [[1]], style=STAR, common=separator) == [["-", 1]]
    assert shared_server.values("echo", [1]) == [1], "a call without one has none"
    drop_common(shared_server, name)
    drop_common(shared_server, separator)


def test_its_kind_is_its_own(shared_server):
    blob = send_common(shared_server, b"\x00\xff", kind=BLOBS)
    assert shared_server.values("pair_bytes", [b"1", b""], kind=BLOBS, common=blob) == [b"\x00\xff|1", b"\x00\xff|"]
    big = 2**80
    text = send_common(shared_server, json.dumps([big]).encode(), kind=BLOBS, content_type="application/json")
    answers = shared_server.values("pair", [b"1"], kind=BLOBS, content_type="application/json", common=text)
    assert json.loads(answers[0]) == [[big], 1]
    value = send_common(shared_server, "v")
    answers = shared_server.values("pair", [b"1"], kind=BLOBS, content_type="application/json", common=value)
    assert json.loads(answers[0]) == ["v", 1]
    assert len(shared_server.values("identity_of", [1], common=blob)) == 1, "bytes beside values"


def test_it_is_decoded_once_and_every_item_sees_the_same_object(shared_server):
    first, second = send_common(shared_server, {"k": 1}), send_common(shared_server, {"k": 1})
    seen = {
        name: {identity for _ in range(3) for identity in shared_server.values("identity_of", [0] * 50, common=name)}
        for name in (first, second)
    }
    assert [len(identities) for identities in seen.values()] == [1, 1]
    assert seen[first] != seen[second], "two at once are two objects"


def test_a_change_is_seen_by_the_items_that_follow(shared_server):
    name = send_common(shared_server, [])
    assert shared_server.values("remember", [1, 2], common=name) == [[1], [1, 2]]
    assert shared_server.values("remember", [3], common=name) == [[1, 2, 3]]
    other = send_common(shared_server, [])
    assert shared_server.values("remember", [4], common=other) == [[4]]


def test_what_was_sent_before_the_drop_still_has_it(shared_server):
    name = send_common(shared_server, "late")
    runs = [shared_server.start_run("pair", [index], common=name) for index in range(3)]
    drop_common(shared_server, name)
    assert [shared_server.finish(run).items for run in runs] == [[["late", index]] for index in range(3)]
    drop_common(shared_server, name)
    assert shared_server.values("echo", [1]) == [1]


@pytest.mark.parametrize(
    ("value", "kind", "content_type"),
    [(b"\xff\xff", VALUES, ""), (b"{", BLOBS, "application/json")],
)
def test_one_that_cannot_be_decoded_fails_every_item(shared_server, value, kind, content_type):
    name = next(names)
    frame = worker_pb2.SetCommon(common=name, kind=kind, content_type=content_type, value=value)
    shared_server.send(set_common=frame)
    for _ in range(2):
        outcome = shared_server.run("pair", [1, 2, 3], common=name)
        assert list(outcome.failures) == [0, 1, 2]
        for failure in outcome.failures.values():
            assert failure.kind == worker_pb2.FAILURE_KIND_INVALID_ITEM
            assert failure.part == worker_pb2.CALL_PART_COMMON
            assert "`common` can't be decoded" in failure.message
    assert shared_server.values("echo", [1]) == [1]


def test_a_function_without_a_place_for_it_fails_its_items(shared_server):
    name = send_common(shared_server, 1)
    failure = shared_server.failure("echo", 2, common=name)
    assert (failure.kind, failure.type) == (worker_pb2.FAILURE_KIND_RAISED, "TypeError")


@pytest.mark.parametrize("breach", ["unknown", "dropped", "no kind"])
def test_the_worker_exits_when_the_server_breaks_the_protocol(breach):
    with FakeServer() as server:
        server.until_ready()
        name = next(names)
        if breach == "no kind":
            server.send(set_common=worker_pb2.SetCommon(common=name, value=b""))
        else:
            if breach == "dropped":
                name = send_common(server, 1)
                drop_common(server, name)
            server.start_run("pair", [1], common=name, encoded=encode_blobs([b"\x08\x00"]))
        assert server.wait_for_exit() == 70
        assert "the server broke the protocol" in server.error_output()
