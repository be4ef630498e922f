"""The native pickle codec: whatever goes in comes out as from CPython's pickle, and CPython reads what we write."""

import array
import collections
import datetime
import decimal
import enum
import math
import pickle
import random
import struct
import sys
import uuid

import pytest

from procpool import _native
from procpool._pickling import dumps as dumps_by_python


class Color(enum.Enum):
    RED = 1


class IntSubclass(int):
    pass


class DictSubclass(dict):
    pass


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is Slotted and same(self.value, other.value)

    __hash__ = None


Point = collections.namedtuple("Point", "x y")


def same(left, right):
    """Compare also types, the bits of floats and the order of dicts."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return len(left) == len(right) and all(map(same, left.items(), right.items()))
    return left == right


def random_value(rng, depth=0):
    choice = rng.randrange(16 if depth < 5 else 9)
    if choice < 9:
        return rng.choice([
            None, True, False, 0, -1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1,
            2**63 - 1, 2**63, -(2**63), -(2**63) - 1, rng.getrandbits(64), -rng.getrandbits(70),
            0.0, -0.0, math.inf, -math.inf, math.nan, struct.unpack("d", struct.pack("Q", 0x7FF8DEADBEEF0001))[0],
            rng.random(), "", "a", "ä€😀", "x" * 255, "y" * 256, "\ud800", "a\x00b", b"", b"\x00\xff", bytes(300), 1j,
        ])  # fmt: skip
    length = rng.choice([0, 1, 2, 3, 4, 7])
    if choice < 12:
        return tuple(random_value(rng, depth + 1) for _ in range(length))
    if choice < 14:
        return [random_value(rng, depth + 1) for _ in range(length)]
    if choice == 14:
        return {rng.choice([1, "k", (1, "t"), None, 2.5, b"b"]): random_value(rng, depth + 1) for _ in range(length)}
    shared = random_value(rng, depth + 1)
    return [shared, shared, (shared,)]


def test_random_values_survive_every_way():
    rng = random.Random(7)
    for _ in range(5000):
        value = random_value(rng)
        ours, theirs = _native.dumps(value), pickle.dumps(value, rng.randrange(1, 6))
        assert same(pickle.loads(ours), value)
        assert same(_native.loads(ours), value)
        assert same(_native.loads(theirs), value)
        # Also which objects are the same.
        assert pickle.dumps(_native.loads(theirs)) == pickle.dumps(pickle.loads(theirs))


NASTY = [
    IntSubclass(3), DictSubclass(a=1), Point(1, 2), Color.RED, Slotted([1]), collections.OrderedDict(a=1),
    collections.defaultdict(list, a=[1]), {1, 2}, frozenset({3}), bytearray(b"x"), array.array("d", [1.5]), 1 + 2j,
    decimal.Decimal("1.10"), datetime.datetime(2026, 1, 1), uuid.UUID(int=7), range(3), ..., NotImplemented, int, len,
    "\udc80", "\ud83d\ude00", 10**40, -(10**40), [Point(1, 2)], {"k": Color.RED}, (IntSubclass(1),), slice(1, 2),
    {1: "int", True: "bool"}, {0.0: 1}, {-0.0: 1}, [[]] * 3, "a" * 100_000, b"b" * 100_000, tuple(range(1000)),
]  # fmt: skip


@pytest.mark.parametrize("value", NASTY, ids=lambda value: repr(value)[:30])
def test_nasty_values_survive(value):
    ours = _native.dumps(value)
    for loaded in (pickle.loads(ours), _native.loads(ours), _native.loads(pickle.dumps(value))):
        assert same(loaded, value)
        assert same(_native.loads(pickle.dumps(loaded)), value)


def test_the_usual_values_need_no_python():
    item = {"name": "ä" * 300, "point": (1, -2.5), "list": [None, True, b"x" * 300], 3: {}}
    for value in [1, -(2**63), 0.5, "text", b"bytes", (), (1, 2.0), [1, [2, [3]]], {"a": [1, {}]}, item, [[n] for n in range(99)]]:
        assert _native.is_plain(value), value
    for value in [2**63, "\ud800", IntSubclass(1), [Color.RED], {1}, bytearray()]:
        assert not _native.is_plain(value), value


def test_shared_objects_stay_shared():
    inner, pair, text = [1], (1, [2]), "t" * 1000
    for value in ([inner, inner], (inner, [inner]), {"a": inner, "b": inner}, (pair, pair), [text, text]):
        assert not _native.is_plain(value)
        loaded = _native.loads(_native.dumps(value))
        first, second = [*(loaded.values() if isinstance(loaded, dict) else loaded)]
        assert (second[0] if isinstance(value[1] if isinstance(value, tuple) else None, list) else second) is first


def test_a_small_object_does_not_become_a_large_pickle():
    value = ("leaf",) * 4
    for _ in range(12):
        value = (value,) * 4
    assert len(_native.dumps(value)) < 1000
    assert len(_native.dumps(["x" * 100_000] * 100)) < 200_000


def test_many_objects_that_others_hold_are_left_to_python():
    held = [[n] for n in range(17)]
    assert not _native.is_plain(list(held))
    assert _native.is_plain(held[:16])
    assert same(_native.loads(_native.dumps(held)), held)


def test_cycles_stay_cycles():
    cycle = [1]
    cycle.append(cycle)
    loaded = _native.loads(_native.dumps(cycle))
    assert loaded[1] is loaded
    in_tuple = ([],)
    in_tuple[0].append(in_tuple)
    loaded = _native.loads(_native.dumps(in_tuple))
    assert loaded[0][0] is loaded
    endless = {}
    endless["self"] = endless
    loaded = _native.loads(_native.dumps(endless))
    assert loaded["self"] is loaded


def test_depth_is_bounded():
    nested = []
    for _ in range(19):
        nested = [nested]
    assert _native.is_plain(nested)
    assert not _native.is_plain([nested])
    for _ in range(400):
        nested = [nested]
    assert same(_native.loads(_native.dumps(nested)), nested)
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises((RecursionError, pickle.PicklingError)):
        _native.dumps(nested)


def test_what_python_cannot_pickle_is_its_error():
    import _thread

    with pytest.raises(TypeError, match="cannot pickle"):
        _native.dumps([_thread.allocate_lock()])


def test_the_objects_do_not_leak():
    value = {"a": [1.5, (b"x" * 400, "y" * 400)]}
    before = sys.getrefcount(value["a"])
    blocks = sys.getallocatedblocks()
    for _ in range(20_000):
        _native.loads(_native.dumps(value))
    after = sys.getrefcount(value["a"])
    assert after == before
    assert sys.getallocatedblocks() - blocks < 1000


def outcome(load, data):
    try:
        return load(data)
    except Exception as error:
        return type(error)


def test_malformed_pickles_end_as_with_pickle():
    rng = random.Random(11)
    seeds = [_native.dumps(value) for value in (1, "text", [1, (2, 3.5), {"k": b"v"}], (1, 2, 3, 4), {"a": {"b": []}})]
    seeds += [pickle.dumps(pickle.loads(seed), protocol) for seed in seeds for protocol in (2, 4, 5)]
    # Opcodes that call nothing: a random pickle of the others could do anything.
    opcodes = b"(]})\x85\x86\x87taeusNKMJG\x88\x89\x8a\x8cXCBqh\x94\x95\x80.0120"
    for _ in range(30_000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(4)):
            place = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0:
                del data[place]
            elif kind == 1:
                data.insert(place, rng.choice(opcodes))
            else:
                data[place] = rng.choice(opcodes)
            if not data:
                break
        data = bytes(data)
        if any(opcode in data for opcode in b"cRiobr\x81\x82\x83\x84\x92\x93PQ"):
            continue
        theirs, ours = outcome(pickle.loads, data), outcome(_native.loads, data)
        assert same(ours, theirs) or repr(ours) == repr(theirs), data


def test_marks_fence_off_what_is_below_them():
    pickles = [
        b"]((K\x01e.", b"](a.", b"](K\x01(e.", b"}((K\x01K\x02u.", b"K\x01(\x85.", b"]K\x01(0.", b"(.", b"K\x01K\x02.", b"(q\x00.", b"e.", b"a.", b"]K\x01s.",
    ]  # fmt: skip
    for data in pickles:
        data = b"\x80\x04" + data
        assert outcome(_native.loads, data) == outcome(pickle.loads, data), data


def test_the_fallback_is_the_module_function():
    assert _native.loads(dumps_by_python(Point(1, 2))) == Point(1, 2)
    function = _native.loads(_native.dumps(lambda x: x + 1)) if "cloudpickle" in sys.modules else lambda x: x + 1
    assert function(1) == 2
