"""The native module: the client over `procpool-client`, and the worker's loop over `procpool-worker`."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

__version__: str

def dumps(object: object) -> bytes: ...
def loads(pickle: bytes) -> Any: ...
def is_plain(object: object) -> bool: ...

_Codec = Literal["pickle", "values", "bytes"]

class CallError(Exception):
    kind: str
    reason: str
    message: str
    retryable: bool
    failure: Failure | None

class ConnectError(Exception): ...
class Closed(Exception): ...

class Failure:
    index: int
    kind: str
    message: str
    type: str
    traceback: str
    data: bytes
    signal: int | None
    exit_code: int | None
    pid: int | None
    attempt: int | None
    stderr_tail: str
    cause: Exception | None

class Client:
    def __new__(cls, target: str, *, request_timeout: float | None = None) -> Client: ...
    def start(
        self,
        function: str,
        items: Iterable[Any],
        *,
        codec: _Codec,
        star: bool = False,
        common: bytes | None = None,
        content_type: str = "",
        chunk_size: int = 0,
        item_timeout: float | None = None,
        max_attempts: int = 0,
        fail_fast: bool = False,
        priority: int = 0,
        timeout: float | None = None,
        queue: CompletionQueue | None = None,
        token: int = 0,
    ) -> Call: ...
    def stream(
        self,
        function: str,
        *,
        codec: _Codec,
        common: bytes | None = None,
        content_type: str = "",
        ordered: bool = True,
        window: int = 0,
        star: bool = False,
        chunk_size: int = 0,
        item_timeout: float | None = None,
        max_attempts: int = 0,
        fail_fast: bool = False,
        priority: int = 0,
        timeout: float | None = None,
    ) -> Stream: ...
    def list_functions(self, timeout: float | None = None) -> list[dict[str, Any]]: ...
    def limits(self, timeout: float | None = None) -> dict[str, int]: ...
    def is_serving(self, timeout: float | None = None) -> bool: ...
    def close(self) -> None: ...

class Call:
    def wait(self, timeout: float | None = None) -> bool: ...
    def ready(self) -> bool: ...
    def num_items(self) -> int: ...
    def num_received(self) -> int: ...
    def result(self) -> tuple[list[Any], list[Failure]]: ...
    def cancel(self) -> None: ...

class CompletionQueue:
    def __new__(cls) -> CompletionQueue: ...
    def get(self, timeout: float | None = None) -> int | None: ...
    def close(self) -> None: ...

class Stream:
    def room(self, timeout: float | None = None) -> int: ...
    def send(self, item: object) -> None: ...
    def send_many(self, items: list[Any]) -> None: ...
    def finish(self) -> None: ...
    def fail(self) -> None: ...
    def next(self, timeout: float | None = None, max_items: int = 0) -> list[Any] | None: ...
    def cancel(self) -> None: ...

# Of workers.

class NotStartedError(Exception): ...
class WorkerError(Exception): ...

def run_worker(
    *,
    sdk: str,
    load: Callable[[], list[Any]],
    initialize: Callable[[], object],
    register_dump: Callable[[int], tuple[int, str]],
    by_value: bool,
) -> None: ...
def current() -> tuple[int, int, int, str, str, str] | None: ...
def cancelled() -> bool: ...
def encode_value(value: object, *, nan_as_null: bool = False) -> bytes: ...
def decode_value(data: bytes) -> Any: ...
