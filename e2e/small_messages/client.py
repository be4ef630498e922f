"""grpcio: streams items one by one into IMapStream; `undrained`: looks at results when it can send no more.

The messages are made by hand, so that three languages send the same 18 bytes.
"""

import struct
import sys
import threading

import grpc

PATH = "/procpool.v1.PoolService/"


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def fields(message: bytes):
    """Yields the numbers of the fields of a message, and what those with a length contain."""
    position = 0

    def take_varint() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = message[position]
            position += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while position < len(message):
        key = take_varint()
        length = take_varint()
        if key & 7 == 2:
            yield key >> 3, message[position : position + length]
            position += length


CONFIG = field(1, field(1, b"sleep_ms"))
VALUES = field(1, b"\x11" + struct.pack("<d", 1))


def main(address: str, num_items: int, mode: str) -> None:
    channel = grpc.insecure_channel(address)
    blocked, sent = threading.Event(), 0

    def messages():
        nonlocal sent
        yield CONFIG
        for _ in range(num_items):
            yield field(2, VALUES)
            sent += 1

    stream = channel.stream_stream(PATH + "IMapStream")(messages())
    if mode == "undrained":
        # How long it takes to be held up is the machine's business. Another call on the connection goes on.
        other = channel.unary_unary(PATH + "Map")
        before = -1
        while before != sent:
            before = sent
            other(field(1, b"sleep_ms") + field(2, VALUES), timeout=30)
            blocked.wait(0.5)
    lists = (content for message in stream for number, content in fields(message) if number == 3)
    print(sum(1 for values in lists for _ in fields(values)), "results")


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
