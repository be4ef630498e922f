"""The server's side of the worker protocol, for tests: it starts one real worker and speaks with it."""

from __future__ import annotations

import fcntl
import itertools
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import worker_pb2
from google.protobuf import struct_pb2

MAP = worker_pb2.CALL_STYLE_MAP
STAR = worker_pb2.CALL_STYLE_STAR
APPLY = worker_pb2.CALL_STYLE_APPLY
VALUES = worker_pb2.ITEM_KIND_VALUES
BLOBS = worker_pb2.ITEM_KIND_BLOBS

FUNCTIONS = Path(__file__).parent / "functions_for_tests.py"
SOURCE = Path(__file__).parent.parent
# Far more than anything here takes; a test that waits this long has failed.
PATIENCE_SECONDS = 20


def encode_list(values: list[Any]) -> bytes:
    """Encode items with protobuf's own classes, the oracle."""
    message = struct_pb2.ListValue()
    for value in values:
        add_value(message.values.add(), value)
    return message.SerializeToString()


def add_value(message: struct_pb2.Value, value: Any) -> None:
    if value is None:
        message.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, (int, float)):
        message.number_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, list):
        message.list_value.SetInParent()
        for item in value:
            add_value(message.list_value.values.add(), item)
    else:
        message.struct_value.SetInParent()
        for key, item in value.items():
            add_value(message.struct_value.fields[key], item)


def decode_list(data: bytes) -> list[Any]:
    return [plain(value) for value in struct_pb2.ListValue.FromString(data).values]


def plain(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    assert kind is not None, "an empty Value breaks grpcurl"
    if kind == "null_value":
        return None
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "struct_value":
        return {key: plain(item) for key, item in value.struct_value.fields.items()}
    return getattr(value, kind)


def encode_blobs(blobs: list[bytes]) -> bytes:
    # BlobList has the shape of any message with `repeated bytes x = 1`.
    return b"".join(b"\n" + _varint(len(blob)) + blob for blob in blobs)


def decode_blobs(data: bytes) -> list[bytes]:
    blobs = []
    position = 0
    while position < len(data):
        assert data[position] == 0x0A
        position += 1
        length = shift = 0
        while True:
            byte = data[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        blobs.append(data[position : position + length])
        position += length
    return blobs


def _varint(number: int) -> bytes:
    encoded = b""
    while number >= 0x80:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


@dataclass
class Outcome:
    """All results of a chunk."""

    items: list[Any] = field(default_factory=list)
    failures: dict[int, worker_pb2.ItemFailure] = field(default_factory=dict)
    frames: list[worker_pb2.Results] = field(default_factory=list)

    @property
    def busy_ns(self) -> int:
        return sum(frame.busy_ns for frame in self.frames)


class FakeServer:
    """One worker and the socket to it."""

    def __init__(
        self,
        target: str | Path | None = FUNCTIONS,
        *options: str,
        journal_bytes: int = 64 << 10,
        max_frame_bytes: int = 65 << 20,
        by_path: bool = False,
        env: dict[str, str] | None = None,
        welcome: bool = True,
        dump_pipe: bool = True,
    ) -> None:
        self.dump_pipe = dump_pipe
        self.journal_bytes = journal_bytes
        self.memory_fd = os.memfd_create("page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memory_fd, 4096 + journal_bytes)
        self.dump_reader, self.dump_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.directory = tempfile.TemporaryDirectory()
        self.stdout = (Path(self.directory.name) / "stdout").open("w+b")
        self.stderr = (Path(self.directory.name) / "stderr").open("w+b")
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "MARKS": self.directory.name, **(env or {})}
        if by_path:
            path = str(Path(self.directory.name) / "socket")
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            listener.listen()
            listener.settimeout(PATIENCE_SECONDS)
            self.process = self._start(target, options, {**environment, "PROCPOOL_SOCKET": path}, ())
            self.socket, _ = listener.accept()
            listener.close()
        else:
            self.socket, theirs = socket.socketpair()
            theirs.setblocking(False)
            fd = theirs.fileno()
            self.process = self._start(target, options, {**environment, "PROCPOOL_FD": str(fd)}, (fd,))
            theirs.close()
        self.socket.settimeout(PATIENCE_SECONDS)
        self.received = bytearray()
        self.chunk_ids = itertools.count(1)
        self.sequences = itertools.count(1000, 1_000_000)
        self.hello: worker_pb2.Hello | None = None
        if welcome:
            self.send_welcome(journal_bytes, max_frame_bytes)

    def _start(self, target, options, environment, pass_fds) -> subprocess.Popen:
        command = [sys.executable, "-m", "procpool.worker", *([] if target is None else [str(target)]), *options]
        return subprocess.Popen(
            command,
            env=environment,
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
            start_new_session=True,
        )

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.socket.close()
        self.stdout.close()
        self.stderr.close()
        for fd in (self.memory_fd, self.dump_reader, self.dump_writer):
            os.close(fd)
        self.directory.cleanup()

    def send_welcome(self, journal_bytes: int, max_frame_bytes: int) -> None:
        welcome = worker_pb2.Welcome(
            protocol_version=1,
            worker_id=7,
            slot=0,
            max_frame_bytes=max_frame_bytes,
            journal_bytes=journal_bytes,
            dump_pipe=self.dump_pipe,
        )
        data = worker_pb2.ServerFrame(welcome=welcome).SerializeToString()
        fds = [self.memory_fd] if journal_bytes else []
        if journal_bytes:
            fcntl.fcntl(self.memory_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        fds += [self.dump_writer] if self.dump_pipe else []
        socket.send_fds(self.socket, [struct.pack(">I", len(data)) + data], fds)

    def send(self, **frame: Any) -> None:
        data = worker_pb2.ServerFrame(**frame).SerializeToString()
        self.socket.sendall(struct.pack(">I", len(data)) + data)

    def receive(self) -> worker_pb2.WorkerFrame | None:
        """Return the next frame; None at the end of the stream."""
        while True:
            if len(self.received) >= 4:
                end = 4 + struct.unpack_from(">I", self.received)[0]
                if len(self.received) >= end:
                    frame = worker_pb2.WorkerFrame.FromString(bytes(self.received[4:end]))
                    del self.received[:end]
                    return frame
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self.received, "the stream ends within a frame"
                return None
            self.received += data

    def expect(self, kind: str) -> Any:
        """Receive a frame of this kind."""
        frame = self.receive()
        assert frame is not None, f"the worker is gone instead of sending {kind}: {self.error_output()}"
        assert frame.WhichOneof("frame") == kind, frame
        return getattr(frame, kind)

    def until_ready(self) -> FakeServer:
        self.hello = self.expect("hello")
        self.expect("ready")
        return self

    def start_run(self, function: str, items: list[Any], **fields: Any) -> worker_pb2.Run:
        """Send items; blobs if the kind says so."""
        kind = fields.setdefault("kind", VALUES)
        fields.setdefault("style", MAP)
        fields.setdefault("attempt", 1)
        fields.setdefault("chunk", next(self.chunk_ids))
        fields.setdefault("first_sequence", next(self.sequences))
        encoded = fields.pop("encoded", None)
        if encoded is None:
            encoded = encode_list(items) if kind == VALUES else encode_blobs(items)
        run = worker_pb2.Run(function=function, count=len(items), items=encoded, **fields)
        self.send(run=run)
        return run

    def start_apply(self, function: str, args: list[Any], kwargs: dict[str, Any], **fields: Any) -> worker_pb2.Run:
        kind = fields.setdefault("kind", VALUES)
        holder = struct_pb2.Value()
        add_value(holder, kwargs)
        arguments = worker_pb2.ApplyArguments(
            args=encode_list(args) if kind == VALUES else encode_blobs(args),
            kwargs=holder.struct_value.SerializeToString(),
        )
        encoded = encode_blobs([arguments.SerializeToString()])
        return self.start_run(function, [None], style=APPLY, encoded=encoded, **fields)

    def finish(self, run: worker_pb2.Run, count: int | None = None) -> Outcome:
        """Receive the results of a chunk, which must come in order and without gaps."""
        count = run.count if count is None else count
        outcome = Outcome()
        while len(outcome.items) < count:
            results = self.expect("results")
            assert results.chunk == run.chunk
            assert results.first == len(outcome.items)
            items = decode_list(results.items) if run.kind == VALUES else decode_blobs(results.items)
            assert len(items) == results.count >= 1
            for failure in results.failures:
                assert results.first <= failure.offset < results.first + results.count
                outcome.failures[failure.offset] = failure
            outcome.items += items
            outcome.frames.append(results)
        assert len(outcome.items) == count
        return outcome

    def run(self, function: str, items: list[Any], **fields: Any) -> Outcome:
        return self.finish(self.start_run(function, items, **fields))

    def values(self, function: str, items: list[Any], **fields: Any) -> list[Any]:
        outcome = self.run(function, items, **fields)
        assert not outcome.failures, outcome.failures
        return outcome.items

    def failure(self, function: str, item: Any, **fields: Any) -> worker_pb2.ItemFailure:
        """Run one item, which must fail, and another to see that the worker lives."""
        outcome = self.run(function, [item], **fields)
        assert list(outcome.failures) == [0], outcome
        assert outcome.items == [None if fields.get("kind", VALUES) == VALUES else b""]
        assert self.values("echo", [1]) == [1]
        return outcome.failures[0]

    def apply(self, function: str, *args: Any, **kwargs: Any) -> Outcome:
        return self.finish(self.start_apply(function, list(args), kwargs))

    def dump(self, is_whole: Callable[[str], bool] | None = None) -> str:
        """Have the worker dump its stacks, and return what it dumped when that is whole."""
        is_whole = is_whole or (lambda text: text.endswith(self.hello.dump_end))
        self.process.send_signal(self.hello.dump_signal)
        dumped = b""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_whole(dumped.decode()):
            ready, _, _ = select.select([self.dump_reader], [], [], deadline - time.monotonic())
            assert ready, f"the dump does not end: {dumped.decode()}"
            dumped += os.read(self.dump_reader, 1 << 16)
        return dumped.decode()

    def word(self, index: int) -> int:
        return struct.unpack("=Q", os.pread(self.memory_fd, 8, 8 * index))[0]

    def journal(self) -> bytes:
        """Return the valid part of the journal."""
        return os.pread(self.memory_fd, self.word(1), 4096)

    def mark(self, name: str) -> Path:
        """Return a file through which a function and a test tell each other how far they are."""
        return Path(self.directory.name) / name

    def wait_for_mark(self, name: str) -> None:
        wait_until(self.mark(name).exists, f"the mark {name}")

    def wait_for_exit(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def output(self) -> str:
        self.stdout.seek(0)
        return self.stdout.read().decode()

    def error_output(self) -> str:
        self.stderr.seek(0)
        return self.stderr.read().decode()


def wait_until(condition, what: str) -> None:
    """Wait for something that another process does; there is no other way to learn of it than to look."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.002)
