"""Items and errors as Python sees them; both clients of this folder use it."""

import json

import grpc
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

# The library calls again by itself, when and where the server says that it may. Only of a connection that breaks can the
# server say nothing: leave UNAVAILABLE out if no item may run twice, whatever happens.
RETRY = """{"methodConfig": [{
    "name": [{"service": "procpool.v1.PoolService"}],
    "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    }
}]}"""
CHANNEL_OPTIONS = [
    ("grpc.service_config", RETRY),
    # The server sends up to 64 MiB in a message; grpc takes 4 MiB if nobody says so.
    ("grpc.max_receive_message_length", 64 << 20),
    # Notice within a minute that the server's machine has gone.
    ("grpc.keepalive_time_ms", 40_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


def to_values(items) -> struct_pb2.ListValue:
    """Turn a list into `values`."""
    items = list(items)
    refuse_to_round(items)
    values = struct_pb2.ListValue()
    values.extend(items)
    return values


def refuse_to_round(item) -> None:
    """Raise an error for an integer that a double need not hold; protobuf would round it and say nothing."""
    if isinstance(item, int) and abs(item) >= 2**53:
        raise ValueError(f"{item} is beyond 2**53 - 1: send it as a string, or as JSON in a blob")
    if isinstance(item, (list, tuple, dict)):
        for part in item.values() if isinstance(item, dict) else item:
            refuse_to_round(part)


def from_value(value: struct_pb2.Value):
    """Turn a result into what it was: numbers are doubles on the wire, and whole ones below 2**53 become ints again."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "list_value":
            return from_values(value.list_value)
        case "struct_value":
            return {key: from_value(part) for key, part in value.struct_value.fields.items()}
        case "null_value":
            return None
        case kind:
            return getattr(value, kind)


def from_values(values: struct_pb2.ListValue) -> list:
    """Turn `values` into a list."""
    return [from_value(value) for value in values.values]


def indexes_of(response) -> list[int]:
    """Return the index of each result of a stream's message: they follow the first, or all are named."""
    return list(response.indexes) or list(range(response.first_index, response.first_index + len(response.values)))


def describe(error: grpc.RpcError) -> str:
    """Return what a failed call says: its code, its reason, and the details that help."""
    status = rpc_status.from_call(error)
    if status is None:  # It comes from the client library, not from the server.
        return f"{error.code().name}: {error.details()}"
    return describe_status(status)


def describe_status(status) -> str:
    """Return what a google.rpc.Status says, of a call or of one item."""
    details = {}
    for packed in status.details:
        name = packed.TypeName().removeprefix("google.rpc.")
        details[name] = getattr(error_details_pb2, name)()
        packed.Unpack(details[name])
    code = next(code.name for code in grpc.StatusCode if code.value[0] == status.code)
    info = details["ErrorInfo"]
    item = f"item {info.metadata['index']}: " if "index" in info.metadata else ""
    lines = [f"{code} {info.reason}: {item}{status.message}"]
    if "BadRequest" in details:
        lines += [f"  wrong field: {violation.field}" for violation in details["BadRequest"].field_violations]
    if "DebugInfo" in details:
        lines += [f"  remote: {line.strip()}" for line in details["DebugInfo"].stack_entries[-2:]]
    return "\n".join(lines)


def show(title: str, value) -> None:
    """Print a result as JSON."""
    print(f"{title}: {json.dumps(value, separators=(',', ':'))}")
