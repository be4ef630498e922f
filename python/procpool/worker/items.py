"""The items of a chunk as the arguments of calls, and results as records: all that depends on kind and style."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from .._json import decode_json, encode_json
from .._proto import worker_pb2
from .._values import (
    NULL,
    NotEncodableError,
    decode_list,
    decode_number_list,
    decode_struct,
    decode_value_at,
    encode_record,
)
from .._wire import MalformedError, record, split_records
from .channel import ProtocolError

JSON_TYPE = "application/json"

_NULL_RECORD = record(NULL)
_EMPTY_BLOB_RECORD = record(b"")


class Common:
    """An argument that all items of a job share: decoded when the first of them is to run, and then kept."""

    __slots__ = ("_frame", "_problem", "_value")

    def __init__(self, frame: worker_pb2.SetCommon) -> None:
        if frame.kind not in (worker_pb2.ITEM_KIND_VALUES, worker_pb2.ITEM_KIND_BLOBS):
            raise ProtocolError(f"the common argument {frame.common} is of the unknown kind {frame.kind}")
        self._frame: worker_pb2.SetCommon | None = frame
        self._value: Any = None
        self._problem = ""

    def get(self) -> tuple[Any, str]:
        """Return the argument, the same object each time, and what is wrong with it; "" if nothing is."""
        frame, self._frame = self._frame, None
        if frame is not None:
            is_values = frame.kind == worker_pb2.ITEM_KIND_VALUES
            decode = decode_value_at if is_values else _blob_decoder(frame.content_type)
            try:
                self._value = decode(frame.value, 0, len(frame.value))
            except MalformedError as error:
                self._problem = f"`common` can't be decoded: {error}"
        return self._value, self._problem


@dataclass
class DecodedItems:
    """What a chunk asks for."""

    items: list[Any]
    """One for each item: what the call is made with."""
    invalid: dict[int, str] = field(default_factory=dict)
    """By offset: what is wrong with the items that the function cannot be called with."""
    invalid_part: int = worker_pb2.CALL_PART_UNSPECIFIED
    """What of the calls is wrong, if it is not the items."""


def placeholder(kind: int) -> bytes:
    """Return the record that stands at the place of a failed item."""
    return _NULL_RECORD if kind == worker_pb2.ITEM_KIND_VALUES else _EMPTY_BLOB_RECORD


def decode_items(run: worker_pb2.Run) -> DecodedItems:
    """Decode the items of a chunk for the call that `bind` makes.

    Raises:
        ProtocolError: If the chunk as a whole makes no sense; a single item that doesn't is in `invalid`.

    """
    if run.kind not in (worker_pb2.ITEM_KIND_VALUES, worker_pb2.ITEM_KIND_BLOBS):
        raise ProtocolError(f"chunk {run.chunk} has items of the unknown kind {run.kind}")
    if run.style == worker_pb2.CALL_STYLE_APPLY:
        decoded = _decode_apply(run)
    elif run.style in (worker_pb2.CALL_STYLE_MAP, worker_pb2.CALL_STYLE_STAR):
        decoded = _decode_list_of_items(run)
    else:
        raise ProtocolError(f"chunk {run.chunk} is to be called in the unknown style {run.style}")
    if len(decoded.items) != run.count:
        raise ProtocolError(f"chunk {run.chunk} has {len(decoded.items)} items instead of {run.count}")
    return decoded


def _decode_list_of_items(run: worker_pb2.Run) -> DecodedItems:
    data = run.items
    is_star = run.style == worker_pb2.CALL_STYLE_STAR
    is_values = run.kind == worker_pb2.ITEM_KIND_VALUES
    if is_values and not is_star:
        numbers = decode_number_list(data, run.count)
        if numbers is not None:
            return DecodedItems(numbers)
    try:
        spans = split_records(data)
    except MalformedError as error:
        raise ProtocolError(f"the items of chunk {run.chunk} are no list: {error}") from error
    decode = decode_value_at if is_values else _blob_decoder(run.content_type)
    decoded = DecodedItems([])
    for offset, (start, end) in enumerate(spans):
        item = None
        try:
            item = decode(data, start, end)
        except MalformedError as error:
            decoded.invalid[offset] = f"the item can't be decoded: {error}"
        else:
            if is_star and type(item) is not list:
                shown = "bytes" if isinstance(item, bytes) else json.dumps(item)[:100]
                decoded.invalid[offset] = f"the item must be a list, the arguments of one call, and is {shown}"
        decoded.items.append(item)
    return decoded


def _decode_apply(run: worker_pb2.Run) -> DecodedItems:
    arguments = _apply_arguments(run)
    try:
        kwargs = decode_struct(arguments.kwargs)
    except MalformedError as error:
        problem = f"the keyword arguments can't be decoded: {error}"
        return DecodedItems([None], {0: problem}, worker_pb2.CALL_PART_KWARGS)
    try:
        if run.kind == worker_pb2.ITEM_KIND_VALUES:
            positional = decode_list(arguments.args)
        else:
            decode = _blob_decoder(run.content_type)
            positional = [decode(arguments.args, start, end) for start, end in split_records(arguments.args)]
        return DecodedItems([(positional, kwargs)])
    except MalformedError as error:
        return DecodedItems([None], {0: f"the arguments can't be decoded: {error}"})


def _apply_arguments(run: worker_pb2.Run) -> worker_pb2.ApplyArguments:
    try:
        ((start, end),) = split_records(run.items)
        return worker_pb2.ApplyArguments.FromString(run.items[start:end])
    except (ValueError, DecodeError) as error:
        raise ProtocolError(f"chunk {run.chunk} is to apply a function once, but is not one item") from error


def _blob_decoder(content_type: str) -> Callable[[bytes, int, int], Any]:
    if content_type == JSON_TYPE:
        return decode_json
    return lambda data, start, end: data[start:end]


def bind(function: Callable[..., Any], style: int, common: tuple[Any, ...] = ()) -> Callable[[Any], Any]:
    """Return what to call with each decoded item; `common` is what goes before it."""
    if common:
        function = partial(function, *common)
    if style == worker_pb2.CALL_STYLE_STAR:
        return lambda arguments: function(*arguments)
    if style == worker_pb2.CALL_STYLE_APPLY:
        return lambda arguments: function(*arguments[0], **arguments[1])
    return function


def result_encoder(kind: int, content_type: str, *, nan_as_null: bool) -> Callable[[Any], bytes]:
    """Return what makes a record of a result; it raises NotEncodableError for what cannot be sent."""
    if kind == worker_pb2.ITEM_KIND_VALUES:
        return partial(encode_record, nan_as_null=nan_as_null)
    if content_type == JSON_TYPE:
        return lambda result: record(encode_json(result, nan_as_null=nan_as_null))
    return _encode_blob


def _encode_blob(result: Any) -> bytes:
    if isinstance(result, (bytes, bytearray, memoryview)):
        return record(bytes(result))
    raise NotEncodableError(
        f"{type(result).__name__} is not bytes, which a function called with blobs must return; call it with values, "
        f"or with the content type {JSON_TYPE}"
    )
