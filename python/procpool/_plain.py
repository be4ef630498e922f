"""What becomes of objects that are not of a plain type, and why some can't be sent.

The native module and `_json` encode plain types themselves: None, bool, int, float, str, list, tuple, range and dict.
What becomes of which value is in docs/python-workers.md for users, and in items/tests/values.json for tests.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any


class MalformedError(ValueError):
    """Malformed bytes."""


class NotEncodableError(ValueError):
    """A value that cannot be sent. `path` leads to it, from the inside out."""

    def __init__(self, problem: str, path: list[str] | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str] = path or []

    def __str__(self) -> str:
        return f"result{''.join(reversed(self.path))}: {self.problem}"


def too_large(value: int) -> str:
    """Describe why an int cannot be sent as a value."""
    shown = str(value) if value.bit_length() < 256 else f"an integer of {value.bit_length()} bits"
    return f"{shown} is beyond ±(2^53 - 1) and may be rounded; return it as a str"


def not_finite(value: float) -> str:
    """Describe why NaN or an infinity cannot be sent."""
    return f"JSON has no {value}; return None instead, or decorate the function with @procpool.function(nan='null')"


def lone_surrogate(error: UnicodeEncodeError) -> str:
    """Describe why a str cannot be sent."""
    return f"a str with a lone surrogate at {error.start} is not Unicode text"


def bad_key(key: object) -> str:
    """Describe why a dict with this key cannot be sent."""
    return f"a dict with the key {short_repr(key)}: keys must be str"


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
