"""Python values as `google.protobuf.Value`, and back, without a change of meaning.

Written by hand: going through `struct_pb2` costs ten times as much, rounds integers beyond 2^53 without a word, and
turns every integer into a float. `_json` does the same for JSON in blobs, by the same ladder (`simplify`).

What becomes of which value is in docs/python.md for users, and in items/tests/values.json for tests.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from array import array
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any

from ._wire import RECORD_TAG, MalformedError, read_length, read_varint, record, split_records, varint

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that cannot be a rounded one: 2^53 + 1, rounded to a double, is 2^53."""

MAX_LEVELS = 100
"""How deep messages may be nested: protobuf's readers refuse more. A list is two levels, a dict three."""

# A value is in a list in a response, which may be within other messages.
_LEVELS_ABOVE = 4

NUMBER_RECORD_PREFIX = b"\n\t\x11"
"""The prefix of a record that is a number; the double follows, little-endian."""
NUMBER_RECORD_BYTES = 11
_NEGATIVE_ZERO = NUMBER_RECORD_PREFIX + struct.pack("<d", -0.0)

NULL = b"\x08\x00"
_TRUE = b"\x20\x01"
_FALSE = b"\x20\x00"
_NUMBER = struct.Struct("<Bd")
_DOUBLE = struct.Struct("<d")


class NotEncodableError(ValueError):
    """A value that cannot be sent. `path` leads to it, from the inside out."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str] = []

    def __str__(self) -> str:
        return f"result{''.join(reversed(self.path))}: {self.problem}"


def encode_record(value: object, *, nan_as_null: bool = False) -> bytes:
    """Encode a value as one record of a `ListValue`.

    Raises:
        NotEncodableError: If it, or something in it, cannot be sent.

    """
    encoder = _ENCODERS.get(type(value), _encode_other)
    return record(encoder(value, _LEVELS_ABOVE, nan_as_null))


def encode_value(value: object, *, nan_as_null: bool = False) -> bytes:
    """Encode a value as a `Value`, which is never empty.

    Raises:
        NotEncodableError: If it, or something in it, cannot be sent.

    """
    return _encode(value, _LEVELS_ABOVE, nan_as_null)


def _encode(value: Any, level: int, nan_as_null: bool) -> bytes:
    return _ENCODERS.get(type(value), _encode_other)(value, level, nan_as_null)


def _encode_none(_value: None, _level: int, _nan_as_null: bool) -> bytes:
    return NULL


def _encode_bool(value: bool, _level: int, _nan_as_null: bool) -> bytes:
    return _TRUE if value else _FALSE


def _encode_int(value: int, _level: int, _nan_as_null: bool) -> bytes:
    if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return _NUMBER.pack(0x11, value)
    shown = str(value) if value.bit_length() < 256 else f"an integer of {value.bit_length()} bits"
    raise NotEncodableError(f"{shown} is beyond ±(2^53 - 1) and may be rounded; return it as a str")


def _encode_float(value: float, _level: int, nan_as_null: bool) -> bytes:
    if math.isfinite(value):
        return _NUMBER.pack(0x11, value)
    if nan_as_null:
        return NULL
    raise NotEncodableError(not_finite(value))


def not_finite(value: float) -> str:
    """Describe why NaN or an infinity cannot be sent."""
    return f"JSON has no {value}; return None instead, or decorate the function with @procpool.function(nan='null')"


def _encode_str(value: str, _level: int, _nan_as_null: bool) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        raise NotEncodableError(lone_surrogate(error)) from None
    return b"\x1a" + varint(len(data)) + data


def lone_surrogate(error: UnicodeEncodeError) -> str:
    """Describe why a str cannot be sent."""
    return f"a str with a lone surrogate at {error.start} is not Unicode text"


def _encode_list(value: Any, level: int, nan_as_null: bool) -> bytes:
    if level + 2 > MAX_LEVELS:
        raise NotEncodableError(_TOO_DEEP)
    parts = []
    for item in value:
        try:
            content = _ENCODERS.get(type(item), _encode_other)(item, level + 2, nan_as_null)
        except NotEncodableError as error:
            error.path.append(f"[{len(parts)}]")
            raise
        parts.append(b"\n" + varint(len(content)) + content)
    body = b"".join(parts)
    return b"\x32" + varint(len(body)) + body


def _encode_mapping(value: Mapping[str, Any], level: int, nan_as_null: bool) -> bytes:
    if level + 3 > MAX_LEVELS:
        raise NotEncodableError(_TOO_DEEP)
    entries = []
    for key, item in value.items():
        if not isinstance(key, str):
            raise NotEncodableError(bad_key(key))
        try:
            name = key.encode()
            content = _ENCODERS.get(type(item), _encode_other)(item, level + 3, nan_as_null)
        except NotEncodableError as error:
            error.path.append(f"[{short_repr(key)}]")
            raise
        except UnicodeEncodeError as error:
            raise NotEncodableError(f"the key {short_repr(key)}: {lone_surrogate(error)}") from None
        entry = b"\n" + varint(len(name)) + name + b"\x12" + varint(len(content)) + content
        entries.append(b"\n" + varint(len(entry)) + entry)
    body = b"".join(entries)
    return b"\x2a" + varint(len(body)) + body


def bad_key(key: object) -> str:
    """Describe why a dict with this key cannot be sent."""
    return f"a dict with the key {short_repr(key)}: keys must be str"


_TOO_DEEP = "nested more than 48 lists or 32 dicts deep, which most readers refuse; is it a cycle?"

_ENCODERS: dict[type, Callable[[Any, int, bool], bytes]] = {
    type(None): _encode_none,
    bool: _encode_bool,
    int: _encode_int,
    float: _encode_float,
    str: _encode_str,
    list: _encode_list,
    tuple: _encode_list,
    range: _encode_list,
    dict: _encode_mapping,
}


def _encode_other(value: Any, level: int, nan_as_null: bool) -> bytes:
    if level > MAX_LEVELS:
        raise NotEncodableError(_TOO_DEEP)
    simpler = simplify(value)
    encoder = _ENCODERS.get(type(simpler))
    if encoder is None:
        # One level down, so that an object which converts into itself ends.
        return _encode_other(simpler, level + 1, nan_as_null)
    return encoder(simpler, level, nan_as_null)


def simplify(value: Any) -> Any:
    """Convert a value that is not of a plain type into a plainer one, by one step.

    Raises:
        NotEncodableError: If there is no rung for it.

    """
    kind = type(value)
    if isinstance(value, Enum):
        return value.value
    if callable(getattr(kind, "_asdict", None)):
        return dict(_converted(value, "_asdict", value._asdict))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain.__str__(value) if plain is str else plain(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise NotEncodableError(f"{kind.__name__} is not JSON; call with blobs to get bytes, or return text")
    if isinstance(value, (type, timedelta)):
        raise NotEncodableError(_cannot_be_sent(value))
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "") in ("M", "m", "V"):
        return _simplify_odd_numpy(value, dtype)
    for method in ("tolist", "item", "isoformat"):
        convert = getattr(value, method, None)
        if callable(convert):
            simpler = _converted(value, method, convert)
            if type(simpler) is kind:
                break
            # What pandas returns for a missing time.
            return math.nan if simpler == "NaT" else simpler
    raise NotEncodableError(_cannot_be_sent(value))


def _simplify_odd_numpy(value: Any, dtype: Any) -> Any:
    """Simplify types whose meaning numpy's own `tolist()` loses: dates, durations and records."""
    if value.shape:
        return list(value)
    if dtype.kind == "M":
        # tolist() turns nanoseconds into an int.
        text = str(value)
        return math.nan if text == "NaT" else text
    if dtype.kind == "V" and dtype.names:
        return {name: value[name] for name in dtype.names}
    if dtype.kind == "V":
        return value.tolist()
    raise NotEncodableError(_cannot_be_sent(value))


def _converted(value: Any, method: str, convert: Callable[[], Any]) -> Any:
    try:
        return convert()
    except Exception as error:
        raise NotEncodableError(f"{type(value).__name__}.{method}() raised {type(error).__name__}: {error}") from error


def _cannot_be_sent(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    advice = "return numbers, text, lists or dicts of these"
    if isinstance(value, (set, frozenset)):
        advice = "return a list, such as sorted(…)"
    elif isinstance(value, timedelta) or kind.__name__ == "timedelta64":
        advice = "return a number, such as its seconds"
    elif hasattr(kind, "__anext__"):
        advice = "return a list, not an async generator"
    elif hasattr(kind, "__await__"):
        advice = "it was never awaited; make the function itself async"
    elif hasattr(kind, "__next__"):
        advice = "return a list, such as list(…)"
    return f"{name} cannot be sent; {advice}"


def short_repr(value: Any) -> str:
    """Return a short text for a key of a dict."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:60] + "…")
    if isinstance(value, (int, float, bytes, tuple, type(None))):
        try:
            shown = repr(value)
        except Exception:
            return f"<{type(value).__name__}>"
        return shown if len(shown) <= 60 else f"{shown[:60]}…"
    return f"<{type(value).__name__}>"


def decode_value(data: bytes) -> Any:
    """Decode a `Value`.

    Raises:
        MalformedError: If it is none.

    """
    return decode_value_at(data, 0, len(data))


def decode_value_at(data: bytes, start: int, end: int) -> Any:
    """Decode a `Value` within other bytes."""
    return _decode(data, start, end, _LEVELS_ABOVE)


def decode_list(data: bytes) -> list[Any]:
    """Decode a `ListValue`.

    Raises:
        MalformedError: If it is none.

    """
    # Its elements are nested as values.
    return _decode_list(data, 0, len(data), _LEVELS_ABOVE - 1)


def decode_struct(data: bytes) -> dict[str, Any]:
    """Decode a `Struct`.

    Raises:
        MalformedError: If it is none.

    """
    # The values in its entries are nested as values.
    return _decode_struct(data, 0, len(data), _LEVELS_ABOVE - 2)


def decode_number_list(data: bytes, count: int) -> list[int | float] | None:
    """Decode a `ListValue` of exactly this many numbers in bulk; None if it is anything else."""
    if count == 0 or len(data) != NUMBER_RECORD_BYTES * count:
        return None
    for position, byte in enumerate(NUMBER_RECORD_PREFIX):
        if data[position::NUMBER_RECORD_BYTES].count(byte) != count:
            return None
    doubles = bytearray(8 * count)
    for byte_of_double in range(8):
        doubles[byte_of_double::8] = data[len(NUMBER_RECORD_PREFIX) + byte_of_double :: NUMBER_RECORD_BYTES]
    numbers = array("d")
    numbers.frombytes(doubles)
    if struct.pack("=H", 1) != struct.pack("<H", 1):
        numbers.byteswap()
    floats = numbers.tolist()
    try:
        integers = list(map(int, floats))
    except (ValueError, OverflowError):  # One of them is NaN or infinite.
        return list(map(_number, floats))
    is_safe = integers == floats and min(integers) >= -MAX_SAFE_INTEGER and max(integers) <= MAX_SAFE_INTEGER
    if is_safe and _NEGATIVE_ZERO not in data:
        return integers
    return list(map(_number, floats))


def _number(value: float) -> int | float:
    """Return an int for a whole number that cannot be a rounded one. -0.0 would lose its sign."""
    if value.is_integer() and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return int(value) if value or math.copysign(1, value) > 0 else value
    return value


def _decode(data: bytes, position: int, end: int, level: int) -> Any:
    """Decode a value, which must have exactly one field."""
    if level > MAX_LEVELS:
        raise MalformedError(_TOO_DEEP)
    # A fast path for numbers and short texts in their usual encoding; the rest handles all other values.
    size = end - position
    if size == 9 and data[position] == 0x11:
        return _number(_DOUBLE.unpack_from(data, position + 1)[0])
    if 2 <= size < 0x80 and data[position] == 0x1A and data[position + 1] == size - 2:
        return _text(data, position + 2, end)
    if size == 0:
        raise MalformedError("an empty Value; send null_value for null")
    tag = data[position]
    value: Any
    if tag == 0x2A:
        start, position = read_length(data, position + 1, end)
        value = _decode_struct(data, start, position, level + 1)
    elif tag == 0x32:
        start, position = read_length(data, position + 1, end)
        value = _decode_list(data, start, position, level + 1)
    elif tag in (0x20, 0x08):
        number, position = read_varint(data, position + 1, end)
        value = number != 0 if tag == 0x20 else None
    elif tag == 0x1A:
        start, position = read_length(data, position + 1, end)
        value = _text(data, start, position)
    elif tag == 0x11:
        raise MalformedError("a number does not have 8 bytes")
    else:
        raise MalformedError(f"a Value of an unknown kind (tag {tag:#04x})")
    if position != end:
        raise MalformedError("a Value has more than one field")
    return value


def _decode_list(data: bytes, position: int, end: int, level: int) -> list[Any]:
    if level > MAX_LEVELS:
        raise MalformedError(_TOO_DEEP)
    values = []
    while position < end:
        if data[position] != RECORD_TAG:
            raise MalformedError("a list has an invalid element")
        start, position = read_length(data, position + 1, end)
        values.append(_decode(data, start, position, level + 1))
    return values


def _decode_struct(data: bytes, position: int, end: int, level: int) -> dict[str, Any]:
    """Decode a struct. Of two entries with the same key, the last one wins, as in every protobuf map."""
    if level > MAX_LEVELS:
        raise MalformedError(_TOO_DEEP)
    fields = {}
    while position < end:
        if data[position] != RECORD_TAG:
            raise MalformedError("a struct has an invalid entry")
        start, position = read_length(data, position + 1, end)
        key, value = _decode_entry(data, start, position, level + 1)
        fields[key] = value
    return fields


def _decode_entry(data: bytes, position: int, end: int, level: int) -> tuple[str, Any]:
    """Decode an entry, which may omit an empty key."""
    # A fast path for the usual encoding; the rest handles all other entries.
    if end - position > 3 and data[position] == 0x0A and data[position + 1] < 0x80:
        key_end = position + 2 + data[position + 1]
        if key_end + 1 < end and data[key_end] == 0x12:
            start, value_end = read_length(data, key_end + 1, end)
            if value_end == end:
                return _text(data, position + 2, key_end), _decode(data, start, end, level + 1)
    parts: dict[int, tuple[int, int]] = {}
    while position < end:
        tag = data[position]
        start, position = read_length(data, position + 1, end)
        if tag not in (0x0A, 0x12) or tag in parts:
            raise MalformedError("an entry of a struct has more than a key and a value")
        parts[tag] = start, position
    key = _text(data, *parts[0x0A]) if 0x0A in parts else ""
    return key, _decode(data, *parts.get(0x12, (end, end)), level + 1)


def _text(data: bytes, start: int, end: int) -> str:
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise MalformedError("a text is not UTF-8") from None


__all__ = [
    "MAX_LEVELS",
    "MAX_SAFE_INTEGER",
    "NULL",
    "MalformedError",
    "NotEncodableError",
    "decode_list",
    "decode_number_list",
    "decode_struct",
    "decode_value",
    "decode_value_at",
    "encode_record",
    "encode_value",
    "split_records",
]
