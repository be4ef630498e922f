"""Python values as JSON in blobs, and back, by the rules of encoded values: values keep their meaning.

The two differ in what the format itself carries: JSON has integers of any size, and tells 1 from 1.0.

The `json` module writes and reads, at the speed of C, what it does as we would. What it would change without a word
goes another way: keys that are no str, namedtuples (lists, to it), surrogates, NaN, numbers that are too large.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from ._plain import (
    MalformedError,
    NotEncodableError,
    bad_key,
    lone_surrogate,
    not_finite,
    short_repr,
    simplify,
)

MAX_LEVELS = 127
"""How deep lists and dicts may be nested in a result: `serde_json`, among others, refuses more."""

_LEAVES = frozenset((str, int, float, bool, type(None)))
_PLAIN = _LEAVES | {dict, list, tuple, range}
_ONLY_STR = frozenset((str,))
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_TOO_DEEP = f"nested more than {MAX_LEVELS} lists or dicts deep, which some readers refuse; is it a cycle?"


def decode_json(text: str) -> Any:
    """Decode a JSON text. Of two entries with the same key, the last one wins.

    Raises:
        MalformedError: If it is none, or no Python value keeps its meaning.

    """
    try:
        value = _DECODER.decode(text)
        if _SURROGATE_ESCAPE.search(text):
            # It may be one of a pair; a lone one could never be sent back.
            _ENCODER.encode(value).encode()
    except UnicodeEncodeError as error:
        raise MalformedError(f"it is not JSON: {lone_surrogate(error)}") from None
    except RecursionError:
        raise MalformedError("the JSON is nested too deeply") from None
    except ValueError as error:
        raise MalformedError(f"it is not JSON: {error}") from None
    return value


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"JSON has no {constant}")


def _finite_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:60]} is beyond the doubles")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite_float)
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, check_circular=False, separators=(",", ":"))


def encode_json(value: object, *, nan_as_null: bool = False) -> bytes:
    """Encode a value as JSON text.

    Raises:
        NotEncodableError: If it, or something in it, cannot be sent.

    """
    try:
        if _is_plain(value, MAX_LEVELS):
            return _ENCODER.encode(value).encode()
    except ValueError:
        # NaN or a surrogate: the code below finds out which, and where.
        pass
    plain = _plain(value, MAX_LEVELS, nan_as_null)
    try:
        return _ENCODER.encode(plain).encode()
    except ValueError as error:
        # An integer with more digits than Python prints.
        raise NotEncodableError(str(error)) from None


def _is_plain(value: Any, levels: int) -> bool:
    """Return whether the `json` module can write a value unchanged."""
    kind = type(value)
    if kind in _LEAVES:
        return True
    items: Iterable[Any] = value
    if kind is dict:
        if not _ONLY_STR.issuperset(map(type, value)):
            return False
        items = value.values()
    elif kind is not list and kind is not tuple:
        return False
    if levels == 0:
        return False
    # Most containers hold only leaves; this is one loop in C.
    if _LEAVES.issuperset(map(type, items)):
        return True
    return all(_is_plain(item, levels - 1) for item in items)


def _plain(value: Any, levels: int, nan_as_null: bool) -> Any:
    """Return a plain value that can be written."""
    value = _simplified(value)
    kind = type(value)
    if kind is float and not math.isfinite(value):
        if nan_as_null:
            return None
        raise NotEncodableError(not_finite(value))
    if kind is str:
        _check_text(value)
    if kind in _LEAVES:
        return value
    if levels == 0:
        raise NotEncodableError(_TOO_DEEP)
    if kind is dict:
        return {_key(key): _plain_at(short_repr(key), item, levels, nan_as_null) for key, item in value.items()}
    return [_plain_at(index, item, levels, nan_as_null) for index, item in enumerate(value)]


def _simplified(value: Any) -> Any:
    for _ in range(MAX_LEVELS):
        if type(value) in _PLAIN:
            return value
        value = simplify(value)
    # Objects that convert into each other.
    raise NotEncodableError(_TOO_DEEP)


def _plain_at(place: object, item: Any, levels: int, nan_as_null: bool) -> Any:
    try:
        return _plain(item, levels - 1, nan_as_null)
    except NotEncodableError as error:
        error.path.append(f"[{place}]")
        raise


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise NotEncodableError(bad_key(key))
    text = str.__str__(key)
    try:
        _check_text(text)
    except NotEncodableError as error:
        raise NotEncodableError(f"the key {short_repr(key)}: {error.problem}") from None
    return text


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotEncodableError(lone_surrogate(error)) from None
