"""Decodes items into arguments and encodes results as records: everything that depends on kind and style."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from mmap import mmap
from typing import Any

from google.protobuf.message import DecodeError

from .._json import decode_json, encode_json
from .._proto import worker_pb2
from .._values import (
    NULL,
    NUMBER_RECORD_BYTES,
    NUMBER_RECORD_PREFIX,
    NotEncodableError,
    decode_list,
    decode_number_list,
    decode_struct,
    decode_value_at,
    encode_record,
)
from .._wire import MalformedError, iterate_records, record
from .channel import Payload, ProtocolError

JSON_TYPE = "application/json"

_NULL_RECORD = record(NULL)
_EMPTY_BLOB_RECORD = record(b"")
_NUMBERS_AT_A_TIME = 1024


class InvalidItemError(Exception):
    """The function cannot be called with the item."""

    def __init__(self, problem: str, part: int = worker_pb2.CALL_PART_UNSPECIFIED) -> None:
        super().__init__(problem)
        self.problem = problem
        self.part = part
        """The invalid part of the call, if it is not the item."""


class Common:
    """An argument that all items of a job share, decoded by the first of them that runs."""

    __slots__ = ("_content", "_content_type", "_kind", "_problem", "_value")

    def __init__(self, frame: worker_pb2.SetCommon, content: Payload) -> None:
        if frame.kind not in (worker_pb2.ITEM_KIND_VALUES, worker_pb2.ITEM_KIND_BLOBS):
            raise ProtocolError(f"the common argument {frame.common} is of the unknown kind {frame.kind}")
        self._kind = frame.kind
        self._content_type = frame.content_type
        self._content: Payload | None = content
        """The undecoded argument: if an item is ended while it decodes, the next item decodes it."""
        self._value: Any = None
        self._problem = ""

    def get(self) -> Any:
        """Return the argument, the same object each time. For the running item.

        Raises:
            InvalidItemError: If it cannot be decoded.

        """
        content = self._content
        if content is not None:
            decode = decode_value_at if self._kind == worker_pb2.ITEM_KIND_VALUES else _blob_decoder(self._content_type)
            try:
                self._value = decode_at(decode, content.data, content.start, content.end)
            except MalformedError as error:
                self._problem = str(error)
            except _TOO_MUCH as error:
                raise _cannot_be_decoded("`common`", type(error).__name__, worker_pb2.CALL_PART_COMMON) from None
            self._content = None
        if self._problem:
            raise _cannot_be_decoded("`common`", self._problem, worker_pb2.CALL_PART_COMMON)
        return self._value


def placeholder(kind: int) -> bytes:
    """Return the record that represents a failed item."""
    return _NULL_RECORD if kind == worker_pb2.ITEM_KIND_VALUES else _EMPTY_BLOB_RECORD


class ChunkItems:
    """The positions of the items of a chunk, and the call of an item. Nothing is decoded before the call."""

    __slots__ = ("call", "places")

    places: Iterable[Any]
    """One for each item, in order; found as they are asked for, which costs next to nothing.

    It raises ProtocolError when the chunk does not have the items that it says.
    """
    call: Callable[[Any], Any]
    """Decodes the item at a place, and the common argument if that was not done, and calls the function.

    It raises InvalidItemError if the function cannot be called with that, and whatever the function raises. It has a
    frame of its own, so that an interruption in it can be told from one in the runner.
    """

    def __init__(
        self, run: worker_pb2.Run, items: Payload, function: Callable[..., Any], common: Common | None
    ) -> None:
        if run.kind not in (worker_pb2.ITEM_KIND_VALUES, worker_pb2.ITEM_KIND_BLOBS):
            raise ProtocolError(f"chunk {run.chunk} has items of the unknown kind {run.kind}")
        if run.style not in (worker_pb2.CALL_STYLE_MAP, worker_pb2.CALL_STYLE_STAR, worker_pb2.CALL_STYLE_APPLY):
            raise ProtocolError(f"chunk {run.chunk} has the unknown call style {run.style}")
        is_values = run.kind == worker_pb2.ITEM_KIND_VALUES
        decode = decode_value_at if is_values else _blob_decoder(run.content_type)
        self.places = _places(run, items)
        if run.style == worker_pb2.CALL_STYLE_APPLY:
            self.call = _apply_call(items.data, decode, is_values, function)
        elif run.style == worker_pb2.CALL_STYLE_STAR:
            self.call = _star_call(_item_decoder(items.data, decode), function, common)
        elif is_values and (numbers := _number_records(items, run.count)):
            self.places = range(run.count)
            self.call = _map_call(_number_decoder(numbers, run.count), function, common)
        else:
            self.call = _map_call(_item_decoder(items.data, decode), function, common)


def _places(run: worker_pb2.Run, items: Payload) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each item."""
    count = 0
    try:
        for place in iterate_records(items.data, items.start, items.end):
            count += 1
            if count > run.count:
                break
            yield place
    except MalformedError as error:
        raise ProtocolError(f"the items of chunk {run.chunk} are not a list: {error}") from error
    if count != run.count:
        found = "more than" if count > run.count else f"{count} items instead of"
        raise ProtocolError(f"chunk {run.chunk} has {found} {run.count}")


# Errors of a decoder for an item that is too large for this process.
_TOO_MUCH = (MemoryError, RecursionError)


def _cannot_be_decoded(what: str, why: str, part: int = worker_pb2.CALL_PART_UNSPECIFIED) -> InvalidItemError:
    return InvalidItemError(f"{what} can't be decoded: {why}", part)


_Decode = Callable[[bytes, int, int], Any]


def decode_at(decode: _Decode, data: bytes | mmap, start: int, end: int) -> Any:
    """Decode a part of the data, from a copy if the data is large, since decoders need bytes."""
    return decode(data, start, end) if type(data) is bytes else decode(data[start:end], 0, end - start)


def _item_decoder(data: bytes | mmap, decode: _Decode) -> Callable[[tuple[int, int]], Any]:
    def decode_item(place: tuple[int, int]) -> Any:
        try:
            return decode_at(decode, data, *place)
        except MalformedError as error:
            raise _cannot_be_decoded("the item", str(error)) from None
        except _TOO_MUCH as error:
            raise _cannot_be_decoded("the item", type(error).__name__) from None

    return decode_item


def _number_records(items: Payload, count: int) -> bytes | None:
    """Return the items if all are numbers in their usual encoding, which have one length."""
    data, start, end = items.data, items.start, items.end
    prefix = NUMBER_RECORD_PREFIX
    if count == 0 or end - start != NUMBER_RECORD_BYTES * count or data[start : start + len(prefix)] != prefix:
        return None
    records = data[start:end]
    is_so = all(records[at::NUMBER_RECORD_BYTES].count(byte) == count for at, byte in enumerate(prefix))
    return records if is_so else None


def _number_decoder(items: bytes, count: int) -> Callable[[int], Any]:
    """Decode numbers in bulk, some at a time."""
    first, numbers = -_NUMBERS_AT_A_TIME, []

    def decode_number(offset: int) -> int | float:
        nonlocal first, numbers
        if offset - first >= _NUMBERS_AT_A_TIME:
            end = min(offset + _NUMBERS_AT_A_TIME, count)
            numbers = decode_number_list(
                items[offset * NUMBER_RECORD_BYTES : end * NUMBER_RECORD_BYTES], end - offset
            )
            # Stored last: after an interruption in between, the next item detects that the numbers are outdated.
            first = offset
        return numbers[offset - first]

    return decode_number


def _map_call(
    decode_item: Callable[[Any], Any], function: Callable[..., Any], common: Common | None
) -> Callable[[Any], Any]:
    if common is None:
        return lambda place: function(decode_item(place))
    return lambda place: function(common.get(), decode_item(place))


def _star_call(
    decode_item: Callable[[Any], Any], function: Callable[..., Any], common: Common | None
) -> Callable[[Any], Any]:
    def decode_arguments(place: tuple[int, int]) -> list[Any]:
        item = decode_item(place)
        if type(item) is not list:
            shown = "bytes" if isinstance(item, bytes) else json.dumps(item)[:100]
            raise InvalidItemError(f"the item must be a list, the arguments of one call, and is {shown}")
        return item

    if common is None:
        return lambda place: function(*decode_arguments(place))
    return lambda place: function(common.get(), *decode_arguments(place))


def _apply_call(
    data: bytes | mmap, decode: _Decode, is_values: bool, function: Callable[..., Any]
) -> Callable[[Any], Any]:
    def decode_arguments(place: tuple[int, int]) -> tuple[list[Any], dict[str, Any]]:
        start, end = place
        what, part = "the keyword arguments", worker_pb2.CALL_PART_KWARGS
        try:
            arguments = worker_pb2.ApplyArguments.FromString(data[start:end])
            kwargs = decode_struct(arguments.kwargs)
            what, part = "the arguments", worker_pb2.CALL_PART_UNSPECIFIED
            args = arguments.args
            if is_values:
                return decode_list(args), kwargs
            return [decode(args, start, end) for start, end in iterate_records(args)], kwargs
        except (MalformedError, DecodeError) as error:
            raise _cannot_be_decoded(what, str(error), part) from None
        except _TOO_MUCH as error:
            raise _cannot_be_decoded(what, type(error).__name__, part) from None

    def call(place: tuple[int, int]) -> Any:
        args, kwargs = decode_arguments(place)
        return function(*args, **kwargs)

    return call


def _blob_decoder(content_type: str) -> Callable[[bytes, int, int], Any]:
    if content_type == JSON_TYPE:
        return decode_json
    return lambda data, start, end: data[start:end]


def result_encoder(kind: int, content_type: str, *, nan_as_null: bool) -> Callable[[Any], bytes]:
    """Return the encoder of results, which raises NotEncodableError for what cannot be sent."""
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
