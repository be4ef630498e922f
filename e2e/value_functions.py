"""The Python worker that is held against the table of values: it tells what it got, and makes what is hard to send."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import pathlib
import types
import typing
import uuid

import numpy

import procpool

__all__ = ["make", "make_nan_null", "shown", "shown_common", "shown_kwargs"]


def shown(item):
    """Tell what came, as JSON that tells 1 from 1.0 and has NaN."""
    return json.dumps(item)


def shown_common(common, _):
    """Tell what came in common."""
    return json.dumps(common)


def shown_kwargs(*, item):
    """Tell what came as a keyword argument."""
    return json.dumps(item)


def make(expression):
    """Return the value of a Python expression."""
    return eval(expression)


@procpool.function(nan="null", name="make_nan_null")
def make_nan_null(expression):
    """Return the value of a Python expression, with None for what is not a number."""
    return eval(expression)


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Name(str, enum.Enum):
    FIRST = "first"


class Flags(enum.Flag):
    A = 1
    B = 2


class Int(int):
    pass


class Float(float):
    pass


class Text(str):
    pass


class Dict(dict):
    pass


class Pair(typing.NamedTuple):
    first: int
    second: typing.Any


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: typing.Any = None


class Broken:
    def tolist(self):
        raise KeyError("nothing here")


def nested(levels, wrap):
    value = 1
    for _ in range(levels):
        value = wrap(value)
    return value


def cycle():
    value = []
    value.append(value)
    return value


def generator():
    yield 1


RECORD = numpy.dtype([("id", "i4"), ("name", "U5")])
LONGDOUBLE = numpy.longdouble("1.5")
