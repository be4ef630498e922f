"""The few pieces of the protobuf wire format that user data needs.

Records of a list, `google.protobuf.ListValue` and `procpool.v1.BlobList` alike, are field 1, length-delimited. The
`worker_pb2` messages are left to protobuf itself.
"""

from __future__ import annotations

RECORD_TAG = 0x0A
"""Field 1, length-delimited."""


class MalformedError(ValueError):
    """Bytes that are not what they should be."""


def _long_varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


# Nearly every length is one of these.
_SHORT_VARINTS = tuple(_long_varint(number) for number in range(1024))


def varint(number: int) -> bytes:
    """Encode a number that is not negative."""
    return _SHORT_VARINTS[number] if number < 1024 else _long_varint(number)


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
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


def read_length(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return where a length-delimited field at this position starts and ends."""
    if position < end and data[position] < 0x80:
        start, length = position + 1, data[position]
    else:
        length, start = read_varint(data, position, end)
    if length > end - start:
        raise MalformedError("the bytes end too early")
    return start, start + length


def record(content: bytes) -> bytes:
    """Encode one record of a list."""
    length = len(content)
    return b"\n" + (_SHORT_VARINTS[length] if length < 1024 else _long_varint(length)) + content


def split_records(data: bytes) -> list[tuple[int, int]]:
    """Return where each record of an encoded list starts and ends, without tag and length."""
    spans = []
    position, end = 0, len(data)
    while position < end:
        if data[position] != RECORD_TAG:
            raise MalformedError("no list starts like this")
        start = position + 2
        # What read_length does, without the call where the length is one byte.
        if start <= end and (length := data[position + 1]) < 0x80:
            position = start + length
            if position > end:
                raise MalformedError("the bytes end too early")
        else:
            start, position = read_length(data, position + 1, end)
        spans.append((start, position))
    return spans
