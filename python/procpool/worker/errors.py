"""The exception of a function as text for the caller. Nothing here may raise, whatever the exception does."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from .. import _pickling

MAX_TRACEBACK_BYTES = 64 << 10
MAX_MESSAGE_BYTES = 16 << 10
MAX_TYPE_BYTES = 256
MAX_LINE_BYTES = 512
MAX_DATA_BYTES = 64 << 10

_OWN_FILES = str(Path(__file__).parent) + "/"


@dataclass(frozen=True)
class ErrorText:
    """The type, the message and the traceback of an exception."""

    type: str
    message: str
    traceback: str


def describe(error: BaseException) -> ErrorText:
    """Describe an exception of the user's function, without the worker's own frames."""
    try:
        kind = type_name(type(error))
    except BaseException:
        kind = "BaseException"
    try:
        message = str(error)
    except BaseException as second:
        message = f"<its message can't be shown: __str__ raised {type(second).__name__}>"
    try:
        lines = traceback.format_exception(type(error), error, _users_part(error.__traceback__))
        trace = "".join(lines)
    except BaseException as second:
        trace = f"<the traceback can't be shown: {type(second).__name__}>"
    return ErrorText(
        type=shorten(kind, MAX_TYPE_BYTES),
        message=shorten(message, MAX_MESSAGE_BYTES),
        traceback=shorten(trace, MAX_TRACEBACK_BYTES),
    )


def pickled(error: BaseException) -> bytes:
    """Return the pickle of an exception; empty if it has none, or a long one."""
    try:
        data = _pickling.dumps(error)
    except Exception:
        return b""
    return data if len(data) <= MAX_DATA_BYTES else b""


def one_line(error: BaseException) -> str:
    """Return the type and the message of an exception as one short line, for the last line of a log."""
    text = describe(error)
    return shorten(" ".join(f"{text.type}: {text.message}".split()), MAX_LINE_BYTES)


def type_name(kind: type) -> str:
    """Return the name of a type as Python's tracebacks write it, such as `ValueError` or `decimal.Overflow`."""
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        trace = trace.tb_next
    return trace


def shorten(text: str, max_bytes: int) -> str:
    """Return the text, valid for protobuf and cut in the middle to at most this many bytes."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= max_bytes:
        return data.decode()
    note = f"\n… {len(data) - max_bytes} bytes left out …\n" if max_bytes > 1024 else "…"
    room = max_bytes - len(note.encode()) - 8
    head = room * 3 // 4
    tail = room - head
    return data[:head].decode(errors="ignore") + note + data[len(data) - tail :].decode(errors="ignore")
