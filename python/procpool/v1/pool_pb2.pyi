from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OnError(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_ERROR_UNSPECIFIED: _ClassVar[OnError]
    ON_ERROR_FAIL_FAST: _ClassVar[OnError]
    ON_ERROR_COLLECT: _ClassVar[OnError]

class ResultOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESULT_ORDER_UNSPECIFIED: _ClassVar[ResultOrder]
    RESULT_ORDER_ORDERED: _ClassVar[ResultOrder]
    RESULT_ORDER_UNORDERED: _ClassVar[ResultOrder]
ON_ERROR_UNSPECIFIED: OnError
ON_ERROR_FAIL_FAST: OnError
ON_ERROR_COLLECT: OnError
RESULT_ORDER_UNSPECIFIED: ResultOrder
RESULT_ORDER_ORDERED: ResultOrder
RESULT_ORDER_UNORDERED: ResultOrder

class BlobList(_message.Message):
    __slots__ = ("blobs",)
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, blobs: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CallOptions(_message.Message):
    __slots__ = ("chunk_size", "item_timeout", "max_attempts", "on_error", "priority", "request_id")
    CHUNK_SIZE_FIELD_NUMBER: _ClassVar[int]
    ITEM_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ON_ERROR_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    chunk_size: int
    item_timeout: _duration_pb2.Duration
    max_attempts: int
    on_error: OnError
    priority: int
    request_id: str
    def __init__(self, chunk_size: _Optional[int] = ..., item_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_attempts: _Optional[int] = ..., on_error: _Optional[_Union[OnError, str]] = ..., priority: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("function", "values", "blobs", "content_type", "kwargs", "options")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    KWARGS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    function: str
    values: _struct_pb2.ListValue
    blobs: BlobList
    content_type: str
    kwargs: _struct_pb2.Struct
    options: CallOptions
    def __init__(self, function: _Optional[str] = ..., values: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., blobs: _Optional[_Union[BlobList, _Mapping]] = ..., content_type: _Optional[str] = ..., kwargs: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., options: _Optional[_Union[CallOptions, _Mapping]] = ...) -> None: ...

class ApplyResponse(_message.Message):
    __slots__ = ("value", "blob", "content_type")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    value: _struct_pb2.Value
    blob: bytes
    content_type: str
    def __init__(self, value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., blob: _Optional[bytes] = ..., content_type: _Optional[str] = ...) -> None: ...

class MapRequest(_message.Message):
    __slots__ = ("function", "values", "blobs", "content_type", "options", "common_value", "common_blob")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    COMMON_VALUE_FIELD_NUMBER: _ClassVar[int]
    COMMON_BLOB_FIELD_NUMBER: _ClassVar[int]
    function: str
    values: _struct_pb2.ListValue
    blobs: BlobList
    content_type: str
    options: CallOptions
    common_value: _struct_pb2.Value
    common_blob: bytes
    def __init__(self, function: _Optional[str] = ..., values: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., blobs: _Optional[_Union[BlobList, _Mapping]] = ..., content_type: _Optional[str] = ..., options: _Optional[_Union[CallOptions, _Mapping]] = ..., common_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., common_blob: _Optional[bytes] = ...) -> None: ...

class MapResponse(_message.Message):
    __slots__ = ("values", "blobs", "content_type", "errors")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    values: _struct_pb2.ListValue
    blobs: BlobList
    content_type: str
    errors: _containers.RepeatedCompositeFieldContainer[ItemError]
    def __init__(self, values: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., blobs: _Optional[_Union[BlobList, _Mapping]] = ..., content_type: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ...) -> None: ...

class StarMapRequest(_message.Message):
    __slots__ = ("function", "values", "blobs", "content_type", "options", "common_value", "common_blob")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    COMMON_VALUE_FIELD_NUMBER: _ClassVar[int]
    COMMON_BLOB_FIELD_NUMBER: _ClassVar[int]
    function: str
    values: _struct_pb2.ListValue
    blobs: BlobList
    content_type: str
    options: CallOptions
    common_value: _struct_pb2.Value
    common_blob: bytes
    def __init__(self, function: _Optional[str] = ..., values: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., blobs: _Optional[_Union[BlobList, _Mapping]] = ..., content_type: _Optional[str] = ..., options: _Optional[_Union[CallOptions, _Mapping]] = ..., common_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., common_blob: _Optional[bytes] = ...) -> None: ...

class StarMapResponse(_message.Message):
    __slots__ = ("values", "blobs", "content_type", "errors")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    values: _struct_pb2.ListValue
    blobs: BlobList
    content_type: str
    errors: _containers.RepeatedCompositeFieldContainer[ItemError]
    def __init__(self, values: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., blobs: _Optional[_Union[BlobList, _Mapping]] = ..., content_type: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ...) -> None: ...

class IMapRequest(_message.Message):
    __slots__ = ("function", "values", "blobs", "content_type", "options", "order", "window", "star", "common_value", "common_blob")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    STAR_FIELD_NUMBER: _ClassVar[int]
    COMMON_VALUE_FIELD_NUMBER: _ClassVar[int]
    COMMON_BLOB_FIELD_NUMBER: _ClassVar[int]
    function: str
    values: _struct_pb2.ListValue
    blobs: BlobList
    content_type: str
    options: CallOptions
    order: ResultOrder
    window: int
    star: bool
    common_value: _struct_pb2.Value
    common_blob: bytes
    def __init__(self, function: _Optional[str] = ..., values: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., blobs: _Optional[_Union[BlobList, _Mapping]] = ..., content_type: _Optional[str] = ..., options: _Optional[_Union[CallOptions, _Mapping]] = ..., order: _Optional[_Union[ResultOrder, str]] = ..., window: _Optional[int] = ..., star: bool = ..., common_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., common_blob: _Optional[bytes] = ...) -> None: ...

class IMapResponse(_message.Message):
    __slots__ = ("first_index", "indexes", "values", "blobs", "content_type", "errors")
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    first_index: int
    indexes: _containers.RepeatedScalarFieldContainer[int]
    values: _struct_pb2.ListValue
    blobs: BlobList
    content_type: str
    errors: _containers.RepeatedCompositeFieldContainer[ItemError]
    def __init__(self, first_index: _Optional[int] = ..., indexes: _Optional[_Iterable[int]] = ..., values: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., blobs: _Optional[_Union[BlobList, _Mapping]] = ..., content_type: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ...) -> None: ...

class IMapStreamConfig(_message.Message):
    __slots__ = ("function", "content_type", "options", "order", "window", "star", "common_value", "common_blob", "reports_taken")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    STAR_FIELD_NUMBER: _ClassVar[int]
    COMMON_VALUE_FIELD_NUMBER: _ClassVar[int]
    COMMON_BLOB_FIELD_NUMBER: _ClassVar[int]
    REPORTS_TAKEN_FIELD_NUMBER: _ClassVar[int]
    function: str
    content_type: str
    options: CallOptions
    order: ResultOrder
    window: int
    star: bool
    common_value: _struct_pb2.Value
    common_blob: bytes
    reports_taken: bool
    def __init__(self, function: _Optional[str] = ..., content_type: _Optional[str] = ..., options: _Optional[_Union[CallOptions, _Mapping]] = ..., order: _Optional[_Union[ResultOrder, str]] = ..., window: _Optional[int] = ..., star: bool = ..., common_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., common_blob: _Optional[bytes] = ..., reports_taken: bool = ...) -> None: ...

class IMapStreamRequest(_message.Message):
    __slots__ = ("config", "values", "blobs", "results_taken")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_TAKEN_FIELD_NUMBER: _ClassVar[int]
    config: IMapStreamConfig
    values: _struct_pb2.ListValue
    blobs: BlobList
    results_taken: int
    def __init__(self, config: _Optional[_Union[IMapStreamConfig, _Mapping]] = ..., values: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., blobs: _Optional[_Union[BlobList, _Mapping]] = ..., results_taken: _Optional[int] = ...) -> None: ...

class IMapStreamResponse(_message.Message):
    __slots__ = ("first_index", "indexes", "values", "blobs", "content_type", "errors", "items_allowed")
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    first_index: int
    indexes: _containers.RepeatedScalarFieldContainer[int]
    values: _struct_pb2.ListValue
    blobs: BlobList
    content_type: str
    errors: _containers.RepeatedCompositeFieldContainer[ItemError]
    items_allowed: int
    def __init__(self, first_index: _Optional[int] = ..., indexes: _Optional[_Iterable[int]] = ..., values: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., blobs: _Optional[_Union[BlobList, _Mapping]] = ..., content_type: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ..., items_allowed: _Optional[int] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("index", "status")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    index: int
    status: _status_pb2.Status
    def __init__(self, index: _Optional[int] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ErrorData(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ListFunctionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFunctionsResponse(_message.Message):
    __slots__ = ("functions", "limits", "pools")
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    functions: _containers.RepeatedCompositeFieldContainer[Function]
    limits: Limits
    pools: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, functions: _Optional[_Iterable[_Union[Function, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., pools: _Optional[_Iterable[str]] = ...) -> None: ...

class Function(_message.Message):
    __slots__ = ("name", "signature", "doc", "example", "idempotent", "pool")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    name: str
    signature: str
    doc: str
    example: str
    idempotent: bool
    pool: str
    def __init__(self, name: _Optional[str] = ..., signature: _Optional[str] = ..., doc: _Optional[str] = ..., example: _Optional[str] = ..., idempotent: bool = ..., pool: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_queued_items", "num_slots", "default_item_timeout")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    NUM_SLOTS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_ITEM_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_queued_items: int
    num_slots: int
    default_item_timeout: _duration_pb2.Duration
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_queued_items: _Optional[int] = ..., num_slots: _Optional[int] = ..., default_item_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...
