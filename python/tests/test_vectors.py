"""The golden vectors that every SDK reads, and frames that are none."""

import json
import socket
import struct
import threading
from pathlib import Path

import pytest
from google.protobuf import json_format

from procpool._proto import worker_pb2
from procpool.worker.channel import Channel, ChannelClosedError, ProtocolError

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


def read(data: bytes, max_frame_bytes: int = INDEX["max_frame_bytes"]) -> list:
    """Send these bytes and a hang-up to a Channel that has had its Welcome; return what it made of them."""
    ours, theirs = socket.socketpair()
    with ours:
        channel = Channel(theirs)
        welcome = worker_pb2.ServerFrame(
            welcome=worker_pb2.Welcome(protocol_version=1, max_frame_bytes=max_frame_bytes)
        ).SerializeToString()
        # In one piece, so that the Channel has to keep what came with Welcome.
        ours.sendall(struct.pack(">I", len(welcome)) + welcome + data)
        ours.shutdown(socket.SHUT_WR)
        try:
            channel.receive_welcome()
            frames = []
            with pytest.raises(ChannelClosedError):
                for frame, large in channel.frames():
                    assert large is None
                    frames.append(frame)
            return frames
        finally:
            channel.close()


@vectors(outcome="frame")
def test_frames_are_what_the_index_says(vector):
    data = (VECTORS / vector["file"]).read_bytes()
    (length,) = struct.unpack_from(">I", data)
    assert len(data) == 4 + length
    message = MESSAGES[vector["sender"]].FromString(data[4:])
    expected = json_format.ParseDict(vector["frame"], MESSAGES[vector["sender"]]())
    assert message == expected
    assert message.SerializeToString() == data[4:]


@vectors(sender="server", outcome="frame")
def test_the_channel_reads_frames(vector):
    data = (VECTORS / vector["file"]).read_bytes()
    expected = worker_pb2.ServerFrame.FromString(data[4:])
    assert read(data * 3) == [expected] * 3


@vectors(sender="worker", outcome="frame")
def test_the_channel_writes_frames(vector):
    data = (VECTORS / vector["file"]).read_bytes()
    frame = worker_pb2.WorkerFrame.FromString(data[4:])
    ours, theirs = socket.socketpair()
    with ours:
        channel = Channel(theirs)
        if frame.WhichOneof("frame") == "results":
            items = frame.results.items
            frame.results.ClearField("items")
            channel.send_results(frame.results, items)
        else:
            channel.send(frame)
        assert ours.recv(1 << 16) == data
        channel.close()


@vectors(outcome="too_long")
def test_too_long_frames_are_refused(vector):
    with pytest.raises(ProtocolError, match="over the limit"):
        read((VECTORS / vector["file"]).read_bytes())


@vectors(outcome="truncated")
def test_a_stream_that_ends_within_a_frame_is_closed(vector):
    assert read((VECTORS / vector["file"]).read_bytes()) == []


@vectors(sender="server", outcome="malformed")
def test_malformed_frames_are_refused(vector):
    with pytest.raises(ProtocolError, match="is not a ServerFrame"):
        read((VECTORS / vector["file"]).read_bytes())


@vectors(sender="server", outcome="unknown")
def test_unknown_frames_are_frames_of_no_kind(vector):
    (frame,) = read((VECTORS / vector["file"]).read_bytes())
    assert frame.WhichOneof("frame") is None


def test_large_frames_arrive_whole():
    run = worker_pb2.ServerFrame(run=worker_pb2.Run(chunk=1, items=b"x" * 3_000_000)).SerializeToString()
    data = struct.pack(">I", len(run)) + run
    ours, theirs = socket.socketpair()
    with ours:
        channel = Channel(theirs)
        welcome = worker_pb2.ServerFrame(
            welcome=worker_pb2.Welcome(protocol_version=1, max_frame_bytes=4 << 20)
        ).SerializeToString()
        sender = threading.Thread(
            target=lambda: (ours.sendall(struct.pack(">I", len(welcome)) + welcome + data * 3), ours.shutdown(1))
        )
        sender.start()
        channel.receive_welcome()
        frames = channel.frames()
        for _ in range(3):
            frame, large = next(frames)
            assert (frame.run.chunk, frame.run.items) == (1, b"")
            assert large.data[large.start : large.end] == b"x" * 3_000_000
        with pytest.raises(ChannelClosedError):
            next(frames)
        sender.join()
        channel.close()
