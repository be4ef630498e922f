"""The codec for values, against protobuf's own classes."""

import math
import random

import pytest
from fake_server import add_value, encode_list, plain
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from procpool import _values
from procpool._values import MalformedError, NotEncodableError, decode_value, encode_value

try:
    import numpy
except ImportError:
    numpy = None


def random_value(rng, depth=4):
    choice = rng.randrange(8 if depth else 6)
    if choice == 6:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(5))]
    if choice == 7:
        return {f"k{i}ö" * rng.randrange(1, 60): random_value(rng, depth - 1) for i in range(rng.randrange(5))}
    return [
        None,
        rng.random() < 0.5,
        rng.randint(-(2**53), 2**53),
        rng.uniform(-1e9, 1e9),
        "x" * rng.randrange(300),
        "".join(chr(rng.choice([65, 0xE4, 0x20AC, 0x1F600])) for _ in range(rng.randrange(70))),
    ][choice]


def test_our_values_are_read_by_protobuf_and_the_other_way_round():
    rng = random.Random(3)
    for _ in range(500):
        value = random_value(rng)
        ours = encode_value(value)
        assert plain(struct_pb2.Value.FromString(ours)) == value
        theirs = struct_pb2.Value()
        add_value(theirs, value)
        assert decode_value(theirs.SerializeToString()) == value
        assert decode_value(ours) == value


def test_our_lists_are_those_of_protobuf():
    rng = random.Random(4)
    for _ in range(100):
        values = [random_value(rng, 0) for _ in range(rng.randrange(20))]
        assert b"".join(map(_values.encode_record, values)) == encode_list(values)
        assert _values.decode_list(encode_list(values)) == values


def test_structs_are_those_of_protobuf():
    struct = struct_pb2.Struct()
    struct.update({"a": 1, "b": {"c": [None, True]}, "": ""})
    assert _values.decode_struct(struct.SerializeToString()) == {"a": 1, "b": {"c": [None, True]}, "": ""}
    assert _values.decode_struct(b"") == {}


@pytest.mark.parametrize("value", [5e-324, 1.7976931348623157e308, 0.1, -0.5, math.inf, -math.inf])
def test_doubles_are_carried_bit_by_bit(value):
    message = struct_pb2.Value(number_value=value)
    assert decode_value(message.SerializeToString()) == value
    if math.isfinite(value):
        assert struct_pb2.Value.FromString(encode_value(value)).number_value == value


def test_garbage_is_malformed_or_something_and_never_anything_else():
    rng = random.Random(5)
    accepted = 0
    for _ in range(20_000):
        data = bytearray(encode_value(random_value(rng, 2)))
        for _ in range(rng.randrange(1, 4)):
            position = rng.randrange(len(data))
            action = rng.randrange(3)
            if action == 0:
                data[position] = rng.randrange(256)
            elif action == 1:
                del data[position:]
            else:
                data.insert(position, rng.randrange(256))
            if not data:
                data = bytearray(b"\x08\x00")
        data = bytes(data)
        try:
            theirs = struct_pb2.Value.FromString(data)
        except DecodeError:
            theirs = None
        try:
            decode_value(data)
        except MalformedError:
            assert theirs is None or b"\x0b" in data or b"\x0c" in data or has_group(data), data
        else:
            accepted += 1
    assert accepted > 1000


def has_group(data):
    """Groups are the one thing that protobuf skips and we refuse; and no writer writes them."""
    return any(byte & 7 in (3, 4) for byte in data)


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"k": value}])
def test_what_we_nest_can_be_read_by_protobuf(wrap):
    value = deepest = None
    for _ in range(100):
        value = wrap(value)
        try:
            encode_value(value)
        except NotEncodableError as error:
            assert "nested more than 100 protobuf levels deep" in str(error)
            break
        deepest = value
    assert deepest is not None
    # As it stands in a response: a message with a ListValue with the value in it.
    response = struct_pb2.Value()
    record = _values.encode_record(deepest)
    listed = b"\x32" + _values.varint(len(record)) + record
    response.ParseFromString(listed)
    assert plain(response) == [deepest]
    assert decode_value(encode_value(deepest)) == deepest


def test_too_deep_input_is_malformed_and_no_stack_overflow():
    data = b"\x08\x00"
    for _ in range(5000):
        record = b"\n" + _values.varint(len(data)) + data
        data = b"\x32" + _values.varint(len(record)) + record
    with pytest.raises(MalformedError):
        decode_value(data)


def test_numbers_in_bulk():
    rng = random.Random(6)
    for count in [1, 2, 7, 100, 1000]:
        for numbers in [
            [rng.randint(-(2**53), 2**53) for _ in range(count)],
            [rng.random() for _ in range(count)],
            [rng.choice([1.5, 2, math.nan, math.inf, 1e300, -0.0]) for _ in range(count)],
        ]:
            data = encode_list(numbers)
            bulk = _values.decode_number_list(data, count)
            slow = _values.decode_list(data)
            assert list(map(repr, bulk)) == list(map(repr, slow))
            assert [type(number) for number in bulk] == [type(number) for number in slow]
            assert _values.decode_number_list(data, count + 1) is None
            for position in (0, 1, 2, len(data) - 11, len(data) - 10, len(data) - 9):
                broken = bytearray(data)
                broken[position] ^= 1
                assert _values.decode_number_list(bytes(broken), count) is None
    assert _values.decode_number_list(b"", 0) is None


@pytest.mark.skipif(numpy is None, reason="numpy is not installed")
def test_numpy_values_become_plain():
    assert decode_value(
        encode_value(
            {
                "int": numpy.int64(3),
                "float": numpy.float32(0.5),
                "bool": numpy.bool_(True),
                "str": numpy.str_("x"),
                "array": numpy.arange(6).reshape(2, 3),
                "double": numpy.float64(1.5),
                "date": numpy.datetime64("2026-01-02"),
            }
        )
    ) == {
        "int": 3,
        "float": 0.5,
        "bool": True,
        "str": "x",
        "array": [[0, 1, 2], [3, 4, 5]],
        "double": 1.5,
        "date": "2026-01-02",
    }
    with pytest.raises(NotEncodableError, match=r"result\[1\]: JSON has no nan"):
        encode_value([1, numpy.float64("nan")])
    with pytest.raises(NotEncodableError, match=r"beyond 2\^53"):
        encode_value(numpy.int64(2**62))
