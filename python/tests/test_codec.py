"""The codec for values, against protobuf's own classes."""

import math
import random

import pytest
from fake_server import add_value, encode_list, plain
from google.protobuf import struct_pb2

from procpool import _values
from procpool._values import MalformedError, NotEncodableError, decode_value, encode_value


def random_value(rng, depth=4):
    choice = rng.randrange(8 if depth else 6)
    if choice == 6:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(5))]
    if choice == 7:
        return {f"k{i}ö" * rng.randrange(1, 60): random_value(rng, depth - 1) for i in range(rng.randrange(5))}
    return [
        None,
        rng.random() < 0.5,
        rng.randint(1 - 2**53, 2**53 - 1),
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
            ours = decode_value(data)
        except MalformedError:
            # Protobuf reads more: fields that nobody knows, a value with two fields or none. No writer writes these, and
            # readers do not agree on what they are.
            continue
        accepted += 1
        theirs = plain(struct_pb2.Value.FromString(data))
        assert theirs == ours or "nan" in repr(ours)
    assert accepted > 1000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x32\x02\x0a\x00",
        b"\x2a\x05\x0a\x03\x0a\x01k",
        b"\x2a\x07\x0a\x05\x0a\x01k\x12\x00",
        b"\x3a\x00",
        b"\x20\x01\x20\x01",
        b"\x32\x02\x12\x00",
        b"\x2a\x0d\x0a\x0b\x0a\x01k\x12\x02\x20\x01\x12\x02\x20\x01",
    ],
)
def test_what_is_no_value_is_never_taken_for_null_or_for_a_part_of_itself(data):
    with pytest.raises(MalformedError):
        decode_value(data)


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"k": value}])
def test_what_we_nest_can_be_read_by_protobuf(wrap):
    value = deepest = None
    for _ in range(100):
        value = wrap(value)
        try:
            encode_value(value)
        except NotEncodableError as error:
            assert "nested more than 48 lists or 32 dicts deep" in str(error)
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
            [rng.randint(1 - 2**53, 2**53 - 1) for _ in range(count)],
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
