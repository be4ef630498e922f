"""The codec for values, against protobuf's own classes; those of lists and structs run in a worker."""

import math
import random

import pytest
import worker_pb2
from fake_server import APPLY, add_value, encode_blobs, encode_list, plain
from google.protobuf import struct_pb2

from procpool._native import decode_value, encode_value
from procpool._plain import MalformedError, NotEncodableError


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
        assert encode_blobs(map(encode_value, values)) == encode_list(values)
        whole = struct_pb2.Value()
        add_value(whole, values)
        assert encode_value(values) == whole.SerializeToString()
        assert decode_value(whole.SerializeToString()) == values


@pytest.mark.parametrize("fields", [{"a": 1, "b": {"c": [None, True]}, "": ""}, {}])
def test_structs_are_those_of_protobuf(shared_server, fields):
    struct = struct_pb2.Struct()
    struct.update(fields)
    value = struct_pb2.Value(struct_value=struct)
    assert decode_value(value.SerializeToString()) == fields
    arguments = worker_pb2.ApplyArguments(kwargs=struct.SerializeToString()).SerializeToString()
    encoded = encode_blobs([arguments])
    outcome = shared_server.run("keywords", [None], style=APPLY, encoded=encoded)
    assert outcome.items == [fields]


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
    listed = as_list(encode_value(deepest))
    response.ParseFromString(listed)
    assert plain(response) == [deepest]
    assert decode_value(encode_value(deepest)) == deepest


def test_too_deep_input_is_malformed_and_no_stack_overflow():
    data = b"\x08\x00"
    for _ in range(5000):
        data = as_list(data)
    with pytest.raises(MalformedError):
        decode_value(data)


def as_list(value: bytes) -> bytes:
    """Return a list of this value."""
    record = encode_blobs([value])
    return b"\x32" + encode_blobs([record])[1:]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.0, "0"),
        (-0.0, "-0.0"),
        (1.5, "1.5"),
        (-3.0, "-3"),
        (2.0**53 - 1, str(2**53 - 1)),
        (1 - 2.0**53, str(1 - 2**53)),
        (2.0**53, str(2.0**53)),
        (-(2.0**53), str(-(2.0**53))),
        (1e300, "1e+300"),
        (-(2.0**63), str(-(2.0**63))),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
    ],
)
def test_whole_numbers_are_ints_unless_they_may_be_rounded(number, expected):
    assert repr(decode_value(struct_pb2.Value(number_value=number).SerializeToString())) == expected
    listed = decode_value(as_list(struct_pb2.Value(number_value=number).SerializeToString()))
    assert repr(listed) == f"[{expected}]"


class Key(str):
    __slots__ = ()


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, 2_100_000])
def test_lengths_of_every_size(length):
    for value in ["x" * length, ["x" * length], {"k" * length: "x" * length}, [[["x" * length]]]]:
        message = struct_pb2.Value()
        add_value(message, value)
        assert struct_pb2.Value.FromString(encode_value(value)) == message
        assert decode_value(message.SerializeToString()) == value


def test_a_dict_that_its_own_values_change_is_an_error_and_no_crash():
    class Grows:
        def tolist(self):
            values[len(values)] = 1
            return 1

    values = {"a": Grows(), "b": 2}
    with pytest.raises(RuntimeError, match="changed size"):
        encode_value(values)
    assert encode_value({Key("k"): 1}) == encode_value({"k": 1})
    with pytest.raises(NotEncodableError, match=r"result\['k'\]\[1\]: JSON has no nan"):
        encode_value({"k": (1, math.nan)})
    assert decode_value(encode_value({"k": (1, math.nan)}, nan_as_null=True)) == {"k": [1, None]}
