"""The socket to the server: receives and sends whole frames. Their meaning is not its concern."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

from google.protobuf.message import DecodeError

from .._proto import worker_pb2
from .._wire import MalformedError, read_length, read_varint, skip_field, varint

FD_VARIABLE = "PROCPOOL_FD"
SOCKET_VARIABLE = "PROCPOOL_SOCKET"

PROTOCOL_VERSION = 1

_LENGTH = struct.Struct(">I")
_READ_BYTES = 256 << 10
# Until Welcome has the real limit.
_MAX_WELCOME_BYTES = 64 << 10
# WorkerFrame.results, and Results.items: both length-delimited.
_RESULTS_TAG = b"\x22"
_ITEMS_TAG = b"\x7a"
# ServerFrame.run and ServerFrame.set_common; Run.items and SetCommon.value.
_RUN_TAG = 0x12
_SET_COMMON_TAG = 0x32
_PAYLOAD_TAG = 0x7A


class ChannelClosedError(Exception):
    """The server is gone."""


class ProtocolError(Exception):
    """The server violated the protocol."""


class NotStartedByServerError(Exception):
    """There is no channel to a server."""


@dataclass(frozen=True)
class Descriptors:
    """The contents of Welcome."""

    page: int | None
    """The memory of the progress page."""
    dump_pipe: int | None
    """The write end of the pipe for stack dumps."""


@dataclass(frozen=True)
class Payload:
    """The user data of a Run or SetCommon: `data` from `start` to `end`, without a copy."""

    data: bytes | mmap
    start: int
    end: int


def whole(data: bytes) -> Payload:
    """Return a payload of all these bytes."""
    return Payload(data, 0, len(data))


class Frame(NamedTuple):
    """A frame from the server."""

    message: worker_pb2.ServerFrame
    large: Payload | None = None
    """The large field that was left out of the message."""


class Channel:
    """The connection to the server. One thread at a time may send, and one may receive."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        # A program started by user code must not keep the channel open.
        connection.set_inheritable(False)
        # The server may have made both ends non-blocking.
        connection.setblocking(True)
        self._received = b""
        self._max_frame_bytes = _MAX_WELCOME_BYTES

    @classmethod
    def open(cls) -> Channel:
        """Connect to the server that the environment names, and remove the variables: only this worker may use them.

        Raises:
            NotStartedByServerError: If the environment does not say it, or what it says is not so.

        """
        fd_text = os.environ.pop(FD_VARIABLE, "")
        path = os.environ.pop(SOCKET_VARIABLE, "")
        if fd_text:
            try:
                return cls(socket.socket(fileno=int(fd_text)))
            except (ValueError, OSError) as error:
                raise NotStartedByServerError(f"{FD_VARIABLE}={fd_text} is not an open socket: {error}") from error
        if path:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(path)
            except OSError as error:
                connection.close()
                raise NotStartedByServerError(f"can't connect to {SOCKET_VARIABLE}={path}: {error}") from error
            return cls(connection)
        raise NotStartedByServerError(f"neither {FD_VARIABLE} nor {SOCKET_VARIABLE} is set")

    def receive_welcome(self) -> tuple[worker_pb2.Welcome, Descriptors]:
        """Receive the first frame and its descriptors.

        Raises:
            ChannelClosedError: If the server went away.
            ProtocolError: If it is no Welcome.

        """
        came: list[int] = []
        received = b""
        end = _LENGTH.size
        while len(received) < end:
            try:
                data, fds, _flags, _address = socket.recv_fds(self._socket, 4096, 4, socket.MSG_CMSG_CLOEXEC)
            except ConnectionError as error:
                raise ChannelClosedError from error
            came += fds
            if not data:
                raise ChannelClosedError
            received += data
            end = _LENGTH.size + self._frame_length(received, 0)
        self._received = received[end:]
        message = _parse(received[_LENGTH.size : end])
        if message.WhichOneof("frame") != "welcome":
            raise ProtocolError("the first frame is not Welcome")
        welcome = message.welcome
        if welcome.protocol_version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"the server speaks version {welcome.protocol_version} of the worker protocol, this worker speaks "
                f"version {PROTOCOL_VERSION}"
            )
        if welcome.max_frame_bytes:
            self._max_frame_bytes = welcome.max_frame_bytes
        return welcome, _sort_descriptors(welcome, came)

    @property
    def max_frame_bytes(self) -> int:
        """The longest frame that either side may send."""
        return self._max_frame_bytes

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that follow Welcome.

        Raises:
            ChannelClosedError: When the server is gone.
            ProtocolError: If a frame makes no sense.

        """
        received, self._received = self._received, b""
        position = 0
        while True:
            start = position + _LENGTH.size
            length = self._frame_length(received, position)
            end = start + length
            if len(received) >= end:
                position = end
                yield Frame(_parse(received[start:end]))
            elif end - len(received) > _READ_BYTES:
                head, received, position = received[start:], b"", 0
                yield _split(self._receive_large(head, length))
            else:
                # Keep no memory of handled frames while waiting.
                received, position = received[position:], 0
                received += self._receive()

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(_READ_BYTES)
        except ConnectionError as error:
            raise ChannelClosedError from error
        if not data:
            raise ChannelClosedError
        return data

    def _receive_large(self, head: bytes, length: int) -> mmap:
        """Receive one frame, which begins with these bytes, into memory of its own."""
        try:
            frame = mmap(-1, length)
        except OSError as error:
            raise MemoryError(f"the server sent a frame of {length} bytes: {error}") from error
        filled = frame.write(head)
        with memoryview(frame) as rest:
            while filled < length:
                try:
                    count = self._socket.recv_into(rest[filled:])
                except ConnectionError as error:
                    raise ChannelClosedError from error
                if not count:
                    raise ChannelClosedError
                filled += count
        return frame

    def _frame_length(self, received: bytes, position: int) -> int:
        """Return the length of the frame at this position; 0 while it is not known."""
        if len(received) < position + _LENGTH.size:
            return 0
        (length,) = _LENGTH.unpack_from(received, position)
        if length > self._max_frame_bytes:
            raise ProtocolError(f"a frame of {length} bytes is over the limit of {self._max_frame_bytes}")
        return length

    def send(self, frame: worker_pb2.WorkerFrame) -> None:
        """Send a frame.

        Raises:
            ChannelClosedError: If the server is gone.

        """
        data = frame.SerializeToString()
        self._send_parts([_LENGTH.pack(len(data)) + data])

    def send_results(self, results: worker_pb2.Results, items: bytes | memoryview) -> None:
        """Send a Results frame with these items, which are not copied.

        Raises:
            ChannelClosedError: If the server is gone.

        """
        fields = results.SerializeToString() + _ITEMS_TAG + varint(len(items))
        header = _RESULTS_TAG + varint(len(fields) + len(items)) + fields
        self._send_parts([_LENGTH.pack(len(header) + len(items)) + header, items])

    def _send_parts(self, parts: list[bytes | memoryview]) -> None:
        total = sum(map(len, parts))
        try:
            sent = self._socket.sendmsg(parts)
            if sent == total:
                return
            for part in parts:
                if sent < len(part):
                    self._socket.sendall(memoryview(part)[sent:])
                sent = max(0, sent - len(part))
        except OSError as error:
            raise ChannelClosedError from error

    def close(self) -> None:
        """Close this process's end."""
        self._socket.close()


def _sort_descriptors(welcome: worker_pb2.Welcome, came: list[int]) -> Descriptors:
    page = came.pop(0) if came and welcome.journal_bytes else None
    dump_pipe = came.pop(0) if came and welcome.dump_pipe else None
    for fd in came:
        os.close(fd)
    return Descriptors(page, dump_pipe)


def _parse(frame: bytes) -> worker_pb2.ServerFrame:
    try:
        return worker_pb2.ServerFrame.FromString(frame)
    except DecodeError as error:
        raise ProtocolError("a frame is not a ServerFrame") from error


def _split(frame: mmap) -> Frame:
    """Parse a large frame without its payload, which the message would keep alive."""
    if frame[0] not in (_RUN_TAG, _SET_COMMON_TAG):
        return Frame(_parse(frame[:]))
    try:
        start, end = read_length(frame, 1, len(frame))
        payload, position = None, start
        rest = b""
        while position < end:
            field_start = position
            tag, position = read_varint(frame, position, end)
            if tag == _PAYLOAD_TAG:
                payload = read_length(frame, position, end)
                position = payload[1]
            else:
                position = skip_field(frame, position, end, tag)
                rest += frame[field_start:position]
    except MalformedError as error:
        raise ProtocolError(f"a frame is not a ServerFrame: {error}") from error
    if payload is None or end != len(frame):
        return Frame(_parse(frame[:]))
    return Frame(_parse(frame[:1] + varint(len(rest)) + rest), Payload(frame, *payload))
