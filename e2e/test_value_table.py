"""Every kind of worker is held against the one table of values, items/tests/values.json, by every way in and out.

What is sent is encoded here, byte by byte: a library would refuse or round what others send.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from itertools import groupby
from typing import Any

import grpc
import pytest
from conftest import PATIENCE, PROCPOOL, ROOT, TARGET, Server, as_doubles, is_same, plain, python_worker
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from procpool.v1 import pool_pb2

TABLE = json.loads((ROOT / "items/tests/values.json").read_text())
WORKERS = ["python", "rust", "node", "exec"]
# Spelled so that a worker which compares strings would not decode it.
JSON_TYPE = "Application/JSON; charset=UTF-8"
# An item's reason begins like this, and no JSON text does.
REASONS = ("INVALID", "RESULT")
# So that nothing which a command is given is a JSON text when it comes back.
HEX = "od -An -v -tx1"
EXEC = [f"shown={HEX}", f"shown_common=sh -c 'printf \"%s\\n\" \"$1\" | {HEX}' sh {{}}", "print=printf %s {}"]


class Reason(str):
    """Why an item failed."""


def varint(number: int) -> bytes:
    encoded = b""
    while number >= 0x80:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def value_bytes(value: Any) -> bytes:
    """Encodes a `google.protobuf.Value`; every number is a double."""
    if value is None:
        return b"\x08\x00"
    if isinstance(value, bool):
        return bytes([0x20, value])
    if isinstance(value, (int, float)):
        return b"\x11" + struct.pack("<d", value)
    if isinstance(value, str):
        return field(3, value.encode())
    if isinstance(value, list):
        return field(6, b"".join(field(1, value_bytes(item)) for item in value))
    return field(5, b"".join(entry(key, value_bytes(item)) for key, item in value.items()))


def entry(key: str, value: bytes) -> bytes:
    return field(1, field(1, key.encode()) + field(2, value))


def item_text(row: dict) -> str | None:
    """Returns an item as JSON, if a row has it so."""
    if "nest" in row:
        opening, inner, closing, levels = row["nest"]
        return opening * levels + inner + closing * levels
    return row.get("text")


def item_bytes(row: dict, encoding: str) -> bytes:
    text = item_text(row)
    if encoding == "json":
        return bytes.fromhex(row["raw"]) if text is None else text.encode()
    return bytes.fromhex(row["wire"]) if text is None else value_bytes(json.loads(text))


def item_outcome(row: dict, worker: str, encoding: str) -> str | None:
    """Returns what a worker gets; None if the item is not sent this way."""
    default = item_text(row)
    outcome = row.get("but", {}).get(worker, {}).get(encoding, row.get(encoding, default))
    return None if row.get(encoding, default) is None else outcome


def answer(address: str, method: str, request: bytes, message: type) -> Any:
    """Makes a call with an encoded request; returns the answer, or the reason why there is none."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        try:
            call = channel.unary_unary(f"/procpool.v1.PoolService/{method}", bytes, message.FromString)
            return call(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            return reason_of(rpc_status.from_call(error))


def reason_of(status: Any) -> Reason:
    info = error_details_pb2.ErrorInfo()
    assert status is not None and status.details[0].Unpack(info), status
    return Reason(info.reason)


def request(function: str, encoding: str, items: list[bytes], more: bytes = b"") -> bytes:
    """Encodes a request; all that have items have the same numbers for these fields."""
    items = b"".join(field(1, item) for item in items)
    content = field(2, items) if encoding == "values" else field(3, items) + field(4, JSON_TYPE.encode())
    return field(1, function.encode()) + content + more


COLLECT = field(5, b"\x20\x02")


def results_of(
    address: str, method: str, function: str, encoding: str, items: list[bytes], more: bytes = b""
) -> list[Any]:
    """Makes a Map or StarMap; returns the result or the reason of each item."""
    message = pool_pb2.MapResponse if method == "Map" else pool_pb2.StarMapResponse
    got = answer(address, method, request(function, encoding, items, COLLECT + more), message)
    if isinstance(got, Reason):
        return [got] * len(items)
    if encoding == "json":
        assert got.content_type == "application/json"
    results = [plain(value) for value in got.values.values] or [json.loads(blob or "null") for blob in got.blobs.blobs]
    assert len(results) == len(items)
    for error in got.errors:
        results[error.index] = reason_of(error.status)
    return results


@pytest.fixture(scope="module", params=WORKERS)
def worker(request):
    """The name of a kind of worker, and a server with one."""
    command = {
        "python": lambda: python_worker("e2e/value_functions.py"),
        "rust": lambda: [str(TARGET / "debug/examples/values")],
        "node": lambda: [*request.getfixturevalue("node"), "e2e/value_worker.js"],
        "exec": lambda: [str(PROCPOOL), "worker", "exec", *(f"--function={function}" for function in EXEC)],
    }[request.param]()
    with Server("--processes", "1", command=command) as server:
        server.wait_ready(1)
        yield request.param, server.address


def seen_by(worker: str, shown: Any) -> Any:
    """Returns what a function says that it got."""
    if isinstance(shown, Reason):
        return shown
    if worker == "exec":
        text = bytes.fromhex(shown).decode()
        # On stdin a value is a line, and so it is here.
        return text.removesuffix("\n")
    return json.loads(shown)


def is_expected(worker: str, outcome: str, seen: Any) -> bool:
    if outcome.startswith(REASONS) or isinstance(seen, Reason):
        return isinstance(seen, Reason) and seen == outcome
    wanted = json.loads(outcome)
    if worker == "exec":
        # A text is bare.
        return seen == wanted if isinstance(wanted, str) else is_same(json.loads(seen), wanted)
    if worker == "node":
        wanted, seen = as_doubles(wanted), as_doubles(seen)
    return is_same(seen, wanted)


def rows_for(worker: str, encoding: str, without: tuple[str, ...] = ()) -> list[tuple[dict, str]]:
    rows = [(row, item_outcome(row, worker, encoding)) for row in TABLE["items"]]
    return [(row, outcome) for row, outcome in rows if outcome is not None and not any(kind in row for kind in without)]


def check(worker: str, rows: list[tuple[dict, str]], shown: list[Any]) -> None:
    assert len(rows) == len(shown) > 0
    seen = [seen_by(worker, one) for one in shown]
    wrong = {
        row["name"]: f"got {str(got)[:200]!r} instead of {outcome[:200]!r}"
        for (row, outcome), got in zip(rows, seen)
        if not is_expected(worker, outcome, got)
    }
    assert wrong == {}


@pytest.mark.parametrize("encoding", ["values", "json"])
def test_items_of_a_map(worker, encoding):
    kind, address = worker
    rows = rows_for(kind, encoding)
    check(kind, rows, results_of(address, "Map", "shown", encoding, [item_bytes(row, encoding) for row, _ in rows]))


@pytest.mark.parametrize("encoding", ["values", "json"])
def test_items_alone(worker, encoding):
    """One by one: several items that are numbers may be decoded in another way."""
    kind, address = worker
    rows = rows_for(kind, encoding)
    shown = [results_of(address, "Map", "shown", encoding, [item_bytes(row, encoding)])[0] for row, _ in rows]
    check(kind, rows, shown)


@pytest.mark.parametrize("encoding", ["values", "json"])
def test_arguments_of_a_starmap(worker, encoding):
    """In a list, so what is nested goes one deeper."""
    kind, address = worker
    rows = rows_for(kind, encoding, without=("nest",))
    if encoding == "values":
        items = [field(6, field(1, item_bytes(row, encoding))) for row, _ in rows]
    else:
        # Two texts with a comma between them would be two arguments, and UTF-16 no list.
        rows = [(row, outcome) for row, outcome in rows if "raw" not in row]
        items = [b"[" + item_bytes(row, encoding) + b"]" for row, _ in rows]
    check(kind, rows, results_of(address, "StarMap", "shown", encoding, items))


def applied(address: str, encoding: str, function: str, arguments: list[bytes], more: bytes = b"") -> Any:
    got = answer(address, "Apply", request(function, encoding, arguments, more), pool_pb2.ApplyResponse)
    if isinstance(got, Reason):
        return got
    return plain(got.value) if encoding == "values" else json.loads(got.blob)


@pytest.mark.parametrize("encoding", ["values", "json"])
def test_arguments_of_an_apply(worker, encoding):
    kind, address = worker
    rows = rows_for(kind, encoding)
    check(kind, rows, [applied(address, encoding, "shown", [item_bytes(row, encoding)]) for row, _ in rows])


def test_keyword_arguments():
    """They are values, whatever the arguments are. Only Python has them."""
    rows = rows_for("python", "values", without=("nest",))
    with Server("--processes", "1", command=python_worker("e2e/value_functions.py")) as server:
        server.wait_ready(1)
        for encoding in ["values", "json"]:
            kwargs = [field(5, entry("item", item_bytes(row, "values"))) for row, _ in rows]
            check("python", rows, [applied(server.address, encoding, "shown_kwargs", [], each) for each in kwargs])


@pytest.mark.parametrize("encoding", ["values", "json"])
def test_common_arguments(worker, encoding):
    kind, address = worker
    rows = rows_for(kind, encoding)
    number = 6 if encoding == "values" else 7
    item = b"\x08\x00" if encoding == "values" else b"null"
    shown = []
    for row, outcome in rows:
        common = field(number, item_bytes(row, encoding))
        [one] = results_of(address, "Map", "shown_common", encoding, [item], common)
        # It is an argument of the command, and so ends at a zero.
        if kind == "exec" and not outcome.startswith(REASONS) and "\0" in str(json.loads(outcome)):
            assert one == "INVALID_ITEM"
            one = "".join(f"{byte:02x}" for byte in json.loads(outcome).encode())
        shown.append(one)
    check(kind, rows, shown)


def result_outcome(row: dict, encoding: str) -> str:
    return row.get(encoding) or row["is"]


def result_rows(worker: str, encoding: str) -> list[tuple[str, str]]:
    """Returns the expressions of a worker's language, and what becomes of them."""
    return [(row[worker], result_outcome(row, encoding)) for row in TABLE["results"] if worker in row]


def encoder(encoding: str) -> Callable[[Any], bytes]:
    return value_bytes if encoding == "values" else lambda item: json.dumps(item).encode()


def made_by(worker: str, expression: str, encode: Callable[[Any], bytes]) -> tuple[str, list[bytes]]:
    """Returns the function and the arguments that make the value of an expression."""
    if worker == "rust":
        # Each is a function of its own.
        return expression, [encode(None)]
    return "print" if worker == "exec" else "make", [encode(expression)]


def check_results(rows: list[tuple[str, str]], encoding: str, results: list[Any]) -> None:
    """Compares results with the outcomes of expressions."""
    assert len(rows) == len(results) > 0
    wrong = {}
    for (expression, outcome), got in zip(rows, results):
        is_failure = outcome.startswith(REASONS)
        wanted = Reason(outcome) if is_failure else json.loads(outcome)
        if encoding == "values" and not is_failure:
            wanted = as_doubles(wanted)
        if not is_same(got, wanted):
            wrong[expression] = f"got {str(got)[:200]!r} instead of {outcome[:200]!r}"
    assert wrong == {}


@pytest.mark.parametrize("encoding", ["values", "json"])
def test_results(worker, encoding):
    kind, address = worker
    rows, encode = result_rows(kind, encoding), encoder(encoding)
    results = []
    # Those of one function together.
    for function, calls in groupby((made_by(kind, expression, encode) for expression, _ in rows), lambda call: call[0]):
        items = [item for _, arguments in calls for item in arguments]
        results += results_of(address, "Map", function, encoding, items)
    check_results(rows, encoding, results)


@pytest.mark.parametrize("encoding", ["values", "json"])
def test_results_alone(worker, encoding):
    """By an Apply, whose result stands in no list."""
    kind, address = worker
    rows, encode = result_rows(kind, encoding), encoder(encoding)
    results = [applied(address, encoding, *made_by(kind, expression, encode)) for expression, _ in rows]
    check_results(rows, encoding, results)


@pytest.mark.parametrize("encoding", ["values", "json"])
def test_results_of_a_python_function_that_sends_null_for_nan(encoding):
    python = [row for row in TABLE["results"] if "python" in row]
    rows = [(row["python"], row.get("null") or result_outcome(row, encoding)) for row in python]
    encode = encoder(encoding)
    with Server("--processes", "1", command=python_worker("e2e/value_functions.py")) as server:
        server.wait_ready(1)
        items = [encode(expression) for expression, _ in rows]
        check_results(rows, encoding, results_of(server.address, "Map", "make_nan_null", encoding, items))


def test_the_rows_of_the_table_have_what_they_need():
    names = [row["name"] for row in TABLE["items"]]
    assert len(set(names)) == len(names)
    for row in TABLE["items"]:
        assert len({"text", "nest", "wire", "raw"} & row.keys()) == 1, row
    for row in TABLE["results"]:
        assert len(set(WORKERS) & row.keys()) == 1, row
        assert "is" in row or {"values", "json"} <= row.keys(), row
