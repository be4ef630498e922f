"""The parts of the protobuf wire format that user data needs.

Records of a list, `google.protobuf.ListValue` and `procpool.v1.BlobList` alike, are field 1, length-delimited. The
`worker_pb2` messages are left to protobuf itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

RECORD_TAG = 0x0A
"""Field 1, length-delimited."""


class MalformedError(ValueError):
    """Malformed bytes."""


def _long_varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


# Nearly every length is one byte.
_SHORT_VARINTS = tuple(_long_varint(number) for number in range(1024))


def varint(number: int) -> bytes:
    """Encode a non-negative number."""
    return _SHORT_VARINTS[number] if number < 1024 else _long_varint(number)


def read_varint(data: bytes | mmap, position: int, end: int) -> tuple[int, int]:
    """Return the number at this position and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise MalformedError("the bytes end too early")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, position
    raise MalformedError("a number is longer than 64 bits")


def read_length(data: bytes | mmap, position: int, end: int) -> tuple[int, int]:
    """Return where a length-delimited field at this position starts and ends."""
    if position < end and data[position] < 0x80:
        start, length = position + 1, data[position]
    else:
        length, start = read_varint(data, position, end)
    if length > end - start:
        raise MalformedError("the bytes end too early")
    return start, start + length


def skip_field(data: bytes | mmap, position: int, end: int, tag: int) -> int:
    """Return the position after an unknown field."""
    wire_type = tag & 7
    if tag >> 3 == 0:
        raise MalformedError("a field has the number 0")
    if wire_type == 0:
        position = read_varint(data, position, end)[1]
    elif wire_type == 1:
        position += 8
    elif wire_type == 2:
        position = read_length(data, position, end)[1]
    elif wire_type == 5:
        position += 4
    else:
        raise MalformedError(f"a field has the unknown wire type {wire_type}")
    if position > end:
        raise MalformedError("the bytes end too early")
    return position


def record(content: bytes) -> bytes:
    """Encode one record of a list."""
    length = len(content)
    return b"\n" + (_SHORT_VARINTS[length] if length < 1024 else _long_varint(length)) + content


def iterate_records(data: bytes | mmap, position: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield where each record of an encoded list starts and ends, without tag and length."""
    if end is None:
        end = len(data)
    while position < end:
        if data[position] != RECORD_TAG:
            raise MalformedError("the bytes are not a list")
        start = position + 2
        # Inlines read_length for lengths of one byte.
        if start <= end and (length := data[position + 1]) < 0x80:
            position = start + length
            if position > end:
                raise MalformedError("the bytes end too early")
        else:
            start, position = read_length(data, position + 1, end)
        yield start, position


def split_records(data: bytes) -> list[tuple[int, int]]:
    """Return where each record of an encoded list starts and ends, without tag and length."""
    return list(iterate_records(data))
