from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ItemKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ITEM_KIND_UNSPECIFIED: _ClassVar[ItemKind]
    ITEM_KIND_VALUES: _ClassVar[ItemKind]
    ITEM_KIND_BLOBS: _ClassVar[ItemKind]

class CallStyle(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALL_STYLE_UNSPECIFIED: _ClassVar[CallStyle]
    CALL_STYLE_MAP: _ClassVar[CallStyle]
    CALL_STYLE_STAR: _ClassVar[CallStyle]
    CALL_STYLE_APPLY: _ClassVar[CallStyle]

class FailureKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_KIND_UNSPECIFIED: _ClassVar[FailureKind]
    FAILURE_KIND_RAISED: _ClassVar[FailureKind]
    FAILURE_KIND_NOT_ENCODABLE: _ClassVar[FailureKind]
    FAILURE_KIND_INVALID_ITEM: _ClassVar[FailureKind]
    FAILURE_KIND_UNKNOWN_FUNCTION: _ClassVar[FailureKind]

class CallPart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALL_PART_UNSPECIFIED: _ClassVar[CallPart]
    CALL_PART_COMMON: _ClassVar[CallPart]
    CALL_PART_KWARGS: _ClassVar[CallPart]
ITEM_KIND_UNSPECIFIED: ItemKind
ITEM_KIND_VALUES: ItemKind
ITEM_KIND_BLOBS: ItemKind
CALL_STYLE_UNSPECIFIED: CallStyle
CALL_STYLE_MAP: CallStyle
CALL_STYLE_STAR: CallStyle
CALL_STYLE_APPLY: CallStyle
FAILURE_KIND_UNSPECIFIED: FailureKind
FAILURE_KIND_RAISED: FailureKind
FAILURE_KIND_NOT_ENCODABLE: FailureKind
FAILURE_KIND_INVALID_ITEM: FailureKind
FAILURE_KIND_UNKNOWN_FUNCTION: FailureKind
CALL_PART_UNSPECIFIED: CallPart
CALL_PART_COMMON: CallPart
CALL_PART_KWARGS: CallPart

class ServerFrame(_message.Message):
    __slots__ = ("welcome", "run", "recall", "ping", "shutdown", "set_common", "drop_common")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    SHUTDOWN_FIELD_NUMBER: _ClassVar[int]
    SET_COMMON_FIELD_NUMBER: _ClassVar[int]
    DROP_COMMON_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    run: Run
    recall: Recall
    ping: Ping
    shutdown: Shutdown
    set_common: SetCommon
    drop_common: DropCommon
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., recall: _Optional[_Union[Recall, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., shutdown: _Optional[_Union[Shutdown, _Mapping]] = ..., set_common: _Optional[_Union[SetCommon, _Mapping]] = ..., drop_common: _Optional[_Union[DropCommon, _Mapping]] = ...) -> None: ...

class WorkerFrame(_message.Message):
    __slots__ = ("hello", "ready", "started", "results", "recalled", "pong")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    RECALLED_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    ready: Ready
    started: Started
    results: Results
    recalled: Recalled
    pong: Pong
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., results: _Optional[_Union[Results, _Mapping]] = ..., recalled: _Optional[_Union[Recalled, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol_version", "worker_id", "slot", "max_frame_bytes", "journal_bytes", "dump_pipe")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DUMP_PIPE_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    worker_id: int
    slot: int
    max_frame_bytes: int
    journal_bytes: int
    dump_pipe: bool
    def __init__(self, protocol_version: _Optional[int] = ..., worker_id: _Optional[int] = ..., slot: _Optional[int] = ..., max_frame_bytes: _Optional[int] = ..., journal_bytes: _Optional[int] = ..., dump_pipe: bool = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol_version", "sdk", "pid", "functions", "uses_progress_page", "takes_common", "dump_signal", "dump_end")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    USES_PROGRESS_PAGE_FIELD_NUMBER: _ClassVar[int]
    TAKES_COMMON_FIELD_NUMBER: _ClassVar[int]
    DUMP_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    DUMP_END_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    sdk: str
    pid: int
    functions: _containers.RepeatedCompositeFieldContainer[Function]
    uses_progress_page: bool
    takes_common: bool
    dump_signal: int
    dump_end: str
    def __init__(self, protocol_version: _Optional[int] = ..., sdk: _Optional[str] = ..., pid: _Optional[int] = ..., functions: _Optional[_Iterable[_Union[Function, _Mapping]]] = ..., uses_progress_page: bool = ..., takes_common: bool = ..., dump_signal: _Optional[int] = ..., dump_end: _Optional[str] = ...) -> None: ...

class Function(_message.Message):
    __slots__ = ("name", "signature", "doc", "example", "idempotent")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    signature: str
    doc: str
    example: str
    idempotent: bool
    def __init__(self, name: _Optional[str] = ..., signature: _Optional[str] = ..., doc: _Optional[str] = ..., example: _Optional[str] = ..., idempotent: bool = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Run(_message.Message):
    __slots__ = ("chunk", "function", "kind", "content_type", "style", "first_index", "count", "first_sequence", "attempt", "stamp_start", "traceparent", "tracestate", "common", "items")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    STYLE_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STAMP_START_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    COMMON_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    function: str
    kind: ItemKind
    content_type: str
    style: CallStyle
    first_index: int
    count: int
    first_sequence: int
    attempt: int
    stamp_start: bool
    traceparent: str
    tracestate: str
    common: int
    items: bytes
    def __init__(self, chunk: _Optional[int] = ..., function: _Optional[str] = ..., kind: _Optional[_Union[ItemKind, str]] = ..., content_type: _Optional[str] = ..., style: _Optional[_Union[CallStyle, str]] = ..., first_index: _Optional[int] = ..., count: _Optional[int] = ..., first_sequence: _Optional[int] = ..., attempt: _Optional[int] = ..., stamp_start: bool = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ..., common: _Optional[int] = ..., items: _Optional[bytes] = ...) -> None: ...

class ApplyArguments(_message.Message):
    __slots__ = ("args", "kwargs")
    ARGS_FIELD_NUMBER: _ClassVar[int]
    KWARGS_FIELD_NUMBER: _ClassVar[int]
    args: bytes
    kwargs: bytes
    def __init__(self, args: _Optional[bytes] = ..., kwargs: _Optional[bytes] = ...) -> None: ...

class SetCommon(_message.Message):
    __slots__ = ("common", "kind", "content_type", "value")
    COMMON_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    common: int
    kind: ItemKind
    content_type: str
    value: bytes
    def __init__(self, common: _Optional[int] = ..., kind: _Optional[_Union[ItemKind, str]] = ..., content_type: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class DropCommon(_message.Message):
    __slots__ = ("common",)
    COMMON_FIELD_NUMBER: _ClassVar[int]
    common: int
    def __init__(self, common: _Optional[int] = ...) -> None: ...

class Recall(_message.Message):
    __slots__ = ("chunk", "cancel", "cancel_offset")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    CANCEL_OFFSET_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    cancel: bool
    cancel_offset: int
    def __init__(self, chunk: _Optional[int] = ..., cancel: bool = ..., cancel_offset: _Optional[int] = ...) -> None: ...

class Recalled(_message.Message):
    __slots__ = ("chunk", "first_not_begun")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FIRST_NOT_BEGUN_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    first_not_begun: int
    def __init__(self, chunk: _Optional[int] = ..., first_not_begun: _Optional[int] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class Shutdown(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Started(_message.Message):
    __slots__ = ("chunk", "offset")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    offset: int
    def __init__(self, chunk: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class Results(_message.Message):
    __slots__ = ("chunk", "first", "count", "failures", "busy_ns", "items")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    BUSY_NS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    first: int
    count: int
    failures: _containers.RepeatedCompositeFieldContainer[ItemFailure]
    busy_ns: int
    items: bytes
    def __init__(self, chunk: _Optional[int] = ..., first: _Optional[int] = ..., count: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[ItemFailure, _Mapping]]] = ..., busy_ns: _Optional[int] = ..., items: _Optional[bytes] = ...) -> None: ...

class ItemFailure(_message.Message):
    __slots__ = ("offset", "kind", "type", "message", "traceback", "part", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    kind: FailureKind
    type: str
    message: str
    traceback: str
    part: CallPart
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., kind: _Optional[_Union[FailureKind, str]] = ..., type: _Optional[str] = ..., message: _Optional[str] = ..., traceback: _Optional[str] = ..., part: _Optional[_Union[CallPart, str]] = ..., data: _Optional[bytes] = ...) -> None: ...
