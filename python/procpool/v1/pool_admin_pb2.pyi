from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PoolState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POOL_STATE_UNSPECIFIED: _ClassVar[PoolState]
    POOL_STATE_STARTING: _ClassVar[PoolState]
    POOL_STATE_READY: _ClassVar[PoolState]
    POOL_STATE_DEGRADED: _ClassVar[PoolState]
    POOL_STATE_DRAINING: _ClassVar[PoolState]
    POOL_STATE_STOPPED: _ClassVar[PoolState]

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STATE_UNSPECIFIED: _ClassVar[WorkerState]
    WORKER_STATE_STARTING: _ClassVar[WorkerState]
    WORKER_STATE_READY: _ClassVar[WorkerState]
    WORKER_STATE_BUSY: _ClassVar[WorkerState]
    WORKER_STATE_STOPPING: _ClassVar[WorkerState]
    WORKER_STATE_EXITED: _ClassVar[WorkerState]

class MemoryEnforcement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMORY_ENFORCEMENT_UNSPECIFIED: _ClassVar[MemoryEnforcement]
    MEMORY_ENFORCEMENT_NONE: _ClassVar[MemoryEnforcement]
    MEMORY_ENFORCEMENT_MONITOR: _ClassVar[MemoryEnforcement]
POOL_STATE_UNSPECIFIED: PoolState
POOL_STATE_STARTING: PoolState
POOL_STATE_READY: PoolState
POOL_STATE_DEGRADED: PoolState
POOL_STATE_DRAINING: PoolState
POOL_STATE_STOPPED: PoolState
WORKER_STATE_UNSPECIFIED: WorkerState
WORKER_STATE_STARTING: WorkerState
WORKER_STATE_READY: WorkerState
WORKER_STATE_BUSY: WorkerState
WORKER_STATE_STOPPING: WorkerState
WORKER_STATE_EXITED: WorkerState
MEMORY_ENFORCEMENT_UNSPECIFIED: MemoryEnforcement
MEMORY_ENFORCEMENT_NONE: MemoryEnforcement
MEMORY_ENFORCEMENT_MONITOR: MemoryEnforcement

class GetPoolRequest(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: str
    def __init__(self, pool: _Optional[str] = ...) -> None: ...

class GetPoolResponse(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: PoolSnapshot
    def __init__(self, pool: _Optional[_Union[PoolSnapshot, _Mapping]] = ...) -> None: ...

class WatchPoolRequest(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: str
    def __init__(self, pool: _Optional[str] = ...) -> None: ...

class WatchPoolResponse(_message.Message):
    __slots__ = ("snapshot", "worker_changed", "job_started", "job_ended", "pool_state_changed", "pool_resized", "restart_started", "restart_ended")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    WORKER_CHANGED_FIELD_NUMBER: _ClassVar[int]
    JOB_STARTED_FIELD_NUMBER: _ClassVar[int]
    JOB_ENDED_FIELD_NUMBER: _ClassVar[int]
    POOL_STATE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    POOL_RESIZED_FIELD_NUMBER: _ClassVar[int]
    RESTART_STARTED_FIELD_NUMBER: _ClassVar[int]
    RESTART_ENDED_FIELD_NUMBER: _ClassVar[int]
    snapshot: PoolSnapshot
    worker_changed: WorkerChanged
    job_started: JobStarted
    job_ended: JobEnded
    pool_state_changed: PoolStateChanged
    pool_resized: PoolResized
    restart_started: RestartStarted
    restart_ended: RestartEnded
    def __init__(self, snapshot: _Optional[_Union[PoolSnapshot, _Mapping]] = ..., worker_changed: _Optional[_Union[WorkerChanged, _Mapping]] = ..., job_started: _Optional[_Union[JobStarted, _Mapping]] = ..., job_ended: _Optional[_Union[JobEnded, _Mapping]] = ..., pool_state_changed: _Optional[_Union[PoolStateChanged, _Mapping]] = ..., pool_resized: _Optional[_Union[PoolResized, _Mapping]] = ..., restart_started: _Optional[_Union[RestartStarted, _Mapping]] = ..., restart_ended: _Optional[_Union[RestartEnded, _Mapping]] = ...) -> None: ...

class ResizePoolRequest(_message.Message):
    __slots__ = ("num_slots", "pool")
    NUM_SLOTS_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    num_slots: int
    pool: str
    def __init__(self, num_slots: _Optional[int] = ..., pool: _Optional[str] = ...) -> None: ...

class ResizePoolResponse(_message.Message):
    __slots__ = ("previous_num_slots",)
    PREVIOUS_NUM_SLOTS_FIELD_NUMBER: _ClassVar[int]
    previous_num_slots: int
    def __init__(self, previous_num_slots: _Optional[int] = ...) -> None: ...

class RestartWorkersRequest(_message.Message):
    __slots__ = ("pool",)
    POOL_FIELD_NUMBER: _ClassVar[int]
    pool: str
    def __init__(self, pool: _Optional[str] = ...) -> None: ...

class RestartWorkersResponse(_message.Message):
    __slots__ = ("num_restarted",)
    NUM_RESTARTED_FIELD_NUMBER: _ClassVar[int]
    num_restarted: int
    def __init__(self, num_restarted: _Optional[int] = ...) -> None: ...

class DumpWorkerRequest(_message.Message):
    __slots__ = ("worker_id", "pool")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    worker_id: int
    pool: str
    def __init__(self, worker_id: _Optional[int] = ..., pool: _Optional[str] = ...) -> None: ...

class DumpWorkerResponse(_message.Message):
    __slots__ = ("stacks",)
    STACKS_FIELD_NUMBER: _ClassVar[int]
    stacks: str
    def __init__(self, stacks: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: int
    def __init__(self, job: _Optional[int] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainPoolRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainPoolResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PoolSnapshot(_message.Message):
    __slots__ = ("state", "num_slots", "workers", "num_jobs", "num_queued_items", "num_running_items", "workers_started_total", "last_start_failure", "restarting", "name", "max_worker_memory_bytes", "worker_memory_limit_bytes", "memory_enforcement", "held_slots", "limits", "num_held_items", "held_bytes", "slots", "counts", "server_version", "jobs")
    STATE_FIELD_NUMBER: _ClassVar[int]
    NUM_SLOTS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    NUM_JOBS_FIELD_NUMBER: _ClassVar[int]
    NUM_QUEUED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    NUM_RUNNING_ITEMS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_STARTED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    LAST_START_FAILURE_FIELD_NUMBER: _ClassVar[int]
    RESTARTING_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MAX_WORKER_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    WORKER_MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    HELD_SLOTS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    NUM_HELD_ITEMS_FIELD_NUMBER: _ClassVar[int]
    HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    state: PoolState
    num_slots: int
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    num_jobs: int
    num_queued_items: int
    num_running_items: int
    workers_started_total: int
    last_start_failure: str
    restarting: bool
    name: str
    max_worker_memory_bytes: int
    worker_memory_limit_bytes: int
    memory_enforcement: MemoryEnforcement
    held_slots: _containers.RepeatedScalarFieldContainer[int]
    limits: PoolLimits
    num_held_items: int
    held_bytes: int
    slots: SlotCounts
    counts: PoolCounts
    server_version: str
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, state: _Optional[_Union[PoolState, str]] = ..., num_slots: _Optional[int] = ..., workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ..., num_jobs: _Optional[int] = ..., num_queued_items: _Optional[int] = ..., num_running_items: _Optional[int] = ..., workers_started_total: _Optional[int] = ..., last_start_failure: _Optional[str] = ..., restarting: bool = ..., name: _Optional[str] = ..., max_worker_memory_bytes: _Optional[int] = ..., worker_memory_limit_bytes: _Optional[int] = ..., memory_enforcement: _Optional[_Union[MemoryEnforcement, str]] = ..., held_slots: _Optional[_Iterable[int]] = ..., limits: _Optional[_Union[PoolLimits, _Mapping]] = ..., num_held_items: _Optional[int] = ..., held_bytes: _Optional[int] = ..., slots: _Optional[_Union[SlotCounts, _Mapping]] = ..., counts: _Optional[_Union[PoolCounts, _Mapping]] = ..., server_version: _Optional[str] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class PoolLimits(_message.Message):
    __slots__ = ("max_queued_items", "max_queued_bytes", "item_timeout", "worker_start_timeout", "cancel_grace_period", "kill_grace_period", "max_items_per_worker", "max_worker_age", "idle_timeout", "crash_limit")
    MAX_QUEUED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    ITEM_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    WORKER_START_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    KILL_GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_PER_WORKER_FIELD_NUMBER: _ClassVar[int]
    MAX_WORKER_AGE_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    CRASH_LIMIT_FIELD_NUMBER: _ClassVar[int]
    max_queued_items: int
    max_queued_bytes: int
    item_timeout: _duration_pb2.Duration
    worker_start_timeout: _duration_pb2.Duration
    cancel_grace_period: _duration_pb2.Duration
    kill_grace_period: _duration_pb2.Duration
    max_items_per_worker: int
    max_worker_age: _duration_pb2.Duration
    idle_timeout: _duration_pb2.Duration
    crash_limit: int
    def __init__(self, max_queued_items: _Optional[int] = ..., max_queued_bytes: _Optional[int] = ..., item_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., worker_start_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., cancel_grace_period: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., kill_grace_period: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_items_per_worker: _Optional[int] = ..., max_worker_age: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., idle_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., crash_limit: _Optional[int] = ...) -> None: ...

class SlotCounts(_message.Message):
    __slots__ = ("starting", "ready", "busy", "stopping", "empty")
    STARTING_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    starting: int
    ready: int
    busy: int
    stopping: int
    empty: int
    def __init__(self, starting: _Optional[int] = ..., ready: _Optional[int] = ..., busy: _Optional[int] = ..., stopping: _Optional[int] = ..., empty: _Optional[int] = ...) -> None: ...

class PoolCounts(_message.Message):
    __slots__ = ("jobs_total", "jobs_failed_total", "items_succeeded_total", "items_failed_total", "items_dropped_total", "worker_exits_total")
    class WorkerExitsTotalEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    JOBS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    JOBS_FAILED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ITEMS_SUCCEEDED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FAILED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ITEMS_DROPPED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    WORKER_EXITS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    jobs_total: int
    jobs_failed_total: int
    items_succeeded_total: int
    items_failed_total: int
    items_dropped_total: int
    worker_exits_total: _containers.ScalarMap[str, int]
    def __init__(self, jobs_total: _Optional[int] = ..., jobs_failed_total: _Optional[int] = ..., items_succeeded_total: _Optional[int] = ..., items_failed_total: _Optional[int] = ..., items_dropped_total: _Optional[int] = ..., worker_exits_total: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("worker_id", "slot", "pid", "state", "age", "num_finished_items", "rss_bytes", "cpu_time", "running")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    NUM_FINISHED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_TIME_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    worker_id: int
    slot: int
    pid: int
    state: WorkerState
    age: _duration_pb2.Duration
    num_finished_items: int
    rss_bytes: int
    cpu_time: _duration_pb2.Duration
    running: RunningItems
    def __init__(self, worker_id: _Optional[int] = ..., slot: _Optional[int] = ..., pid: _Optional[int] = ..., state: _Optional[_Union[WorkerState, str]] = ..., age: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., num_finished_items: _Optional[int] = ..., rss_bytes: _Optional[int] = ..., cpu_time: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., running: _Optional[_Union[RunningItems, _Mapping]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job", "method", "function", "request_id", "trace_id", "age", "remaining_time", "priority", "num_items", "num_queued_items", "num_running_items", "num_finished_items", "num_failed_items", "input_open", "waits_for_reader")
    JOB_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    REMAINING_TIME_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    NUM_ITEMS_FIELD_NUMBER: _ClassVar[int]
    NUM_QUEUED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    NUM_RUNNING_ITEMS_FIELD_NUMBER: _ClassVar[int]
    NUM_FINISHED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    NUM_FAILED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    INPUT_OPEN_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_READER_FIELD_NUMBER: _ClassVar[int]
    job: int
    method: str
    function: str
    request_id: str
    trace_id: str
    age: _duration_pb2.Duration
    remaining_time: _duration_pb2.Duration
    priority: int
    num_items: int
    num_queued_items: int
    num_running_items: int
    num_finished_items: int
    num_failed_items: int
    input_open: bool
    waits_for_reader: bool
    def __init__(self, job: _Optional[int] = ..., method: _Optional[str] = ..., function: _Optional[str] = ..., request_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., age: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., remaining_time: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., priority: _Optional[int] = ..., num_items: _Optional[int] = ..., num_queued_items: _Optional[int] = ..., num_running_items: _Optional[int] = ..., num_finished_items: _Optional[int] = ..., num_failed_items: _Optional[int] = ..., input_open: bool = ..., waits_for_reader: bool = ...) -> None: ...

class RunningItems(_message.Message):
    __slots__ = ("job", "function", "first_index", "count")
    JOB_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    job: int
    function: str
    first_index: int
    count: int
    def __init__(self, job: _Optional[int] = ..., function: _Optional[str] = ..., first_index: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class WorkerChanged(_message.Message):
    __slots__ = ("worker_id", "slot", "pid", "state", "reason")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    worker_id: int
    slot: int
    pid: int
    state: WorkerState
    reason: str
    def __init__(self, worker_id: _Optional[int] = ..., slot: _Optional[int] = ..., pid: _Optional[int] = ..., state: _Optional[_Union[WorkerState, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class JobStarted(_message.Message):
    __slots__ = ("job", "function", "num_items")
    JOB_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    NUM_ITEMS_FIELD_NUMBER: _ClassVar[int]
    job: int
    function: str
    num_items: int
    def __init__(self, job: _Optional[int] = ..., function: _Optional[str] = ..., num_items: _Optional[int] = ...) -> None: ...

class JobEnded(_message.Message):
    __slots__ = ("job", "error")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    job: int
    error: str
    def __init__(self, job: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class PoolStateChanged(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: PoolState
    def __init__(self, state: _Optional[_Union[PoolState, str]] = ...) -> None: ...

class PoolResized(_message.Message):
    __slots__ = ("previous_num_slots", "num_slots")
    PREVIOUS_NUM_SLOTS_FIELD_NUMBER: _ClassVar[int]
    NUM_SLOTS_FIELD_NUMBER: _ClassVar[int]
    previous_num_slots: int
    num_slots: int
    def __init__(self, previous_num_slots: _Optional[int] = ..., num_slots: _Optional[int] = ...) -> None: ...

class RestartStarted(_message.Message):
    __slots__ = ("num_workers",)
    NUM_WORKERS_FIELD_NUMBER: _ClassVar[int]
    num_workers: int
    def __init__(self, num_workers: _Optional[int] = ...) -> None: ...

class RestartEnded(_message.Message):
    __slots__ = ("complete",)
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    complete: bool
    def __init__(self, complete: bool = ...) -> None: ...
