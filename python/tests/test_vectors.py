"""The golden vectors that every SDK reads: the frames of a real worker, and frames that are none."""

import json
import struct
from pathlib import Path

import pytest
import worker_pb2
from fake_server import FakeServer
from google.protobuf import json_format

VECTORS = Path(__file__).parent.parent.parent / "ipc" / "vectors"
INDEX = json.loads((VECTORS / "vectors.json").read_text())
MESSAGES = {"server": worker_pb2.ServerFrame, "worker": worker_pb2.WorkerFrame}


def vectors(sender=None, outcome=None):
    chosen = [
        vector
        for vector in INDEX["vectors"]
        if (sender is None or vector["sender"] == sender) and (outcome is None or vector["outcome"] == outcome)
    ]
    assert chosen
    return pytest.mark.parametrize("vector", chosen, ids=lambda vector: vector["file"])


@vectors(outcome="frame")
def test_frames_are_what_the_index_says(vector):
    data = (VECTORS / vector["file"]).read_bytes()
    (length,) = struct.unpack_from(">I", data)
    assert len(data) == 4 + length
    message = MESSAGES[vector["sender"]].FromString(data[4:])
    expected = json_format.ParseDict(vector["frame"], MESSAGES[vector["sender"]]())
    assert message == expected
    assert message.SerializeToString() == data[4:]


@pytest.fixture
def target(tmp_path):
    """A module that fits the small frames of the vectors."""
    source = tmp_path / "one_function.py"
    source.write_text("def echo(item): return item\n")
    return source


@pytest.mark.parametrize("outcome", ["too_long", "malformed", "unknown"])
def test_a_worker_ends_at_a_frame_that_is_none(target, outcome):
    chosen = [vector for vector in INDEX["vectors"] if (vector["sender"], vector["outcome"]) == ("server", outcome)]
    assert chosen
    for vector in chosen:
        with FakeServer(target, max_frame_bytes=INDEX["max_frame_bytes"]) as server:
            server.until_ready()
            server.socket.sendall((VECTORS / vector["file"]).read_bytes())
            assert server.receive() is None
            assert server.wait_for_exit() == 70
            assert "the server broke the protocol" in server.error_output()


@vectors(outcome="truncated")
def test_a_worker_ends_quietly_when_the_server_goes_in_the_middle_of_a_frame(target, vector):
    with FakeServer(target, max_frame_bytes=INDEX["max_frame_bytes"]) as server:
        server.until_ready()
        server.socket.sendall((VECTORS / vector["file"]).read_bytes())
        server.socket.shutdown(1)
        assert server.receive() is None
        assert server.wait_for_exit() == 0


def test_large_frames_arrive_whole():
    with FakeServer(max_frame_bytes=8 << 20) as server:
        server.until_ready()
        items = ["x" * 3_000_000, "y" * 70_000, "z"]
        for _ in range(3):
            assert server.values("echo", items) == items
