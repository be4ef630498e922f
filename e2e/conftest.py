"""A real server, real workers and real clients: what every end-to-end test stands on."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROCPOOL = TARGET / "release" / "procpool"
GENERATED = TARGET / "e2e-stubs"
# Nothing here takes this long unless it hangs.
PATIENCE = 30.0


def generate_stubs() -> None:
    """Generates the stubs of the public API as a user would, and makes them importable.

    The worker SDK is a package `procpool`, too; in this process the stubs win, in the workers the SDK does.
    """
    GENERATED.mkdir(parents=True, exist_ok=True)
    outputs = [f"--python_out={GENERATED}", f"--grpc_python_out={GENERATED}"]
    generator = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *outputs]
    subprocess.run([*generator, "procpool/v1/pool.proto"], check=True)
    for package in ["procpool", "procpool/v1"]:
        (GENERATED / package / "__init__.py").touch()
    sys.path.insert(0, str(GENERATED))
    for name in [name for name in sys.modules if name == "procpool" or name.startswith("procpool.")]:
        del sys.modules[name]


generate_stubs()


def wait_until(condition, what: str, patience: float = PATIENCE):
    """Returns the first true value of `condition`; fails when it stays false."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"after {patience} s still not: {what}")


def is_alive(pid: int) -> bool:
    """Tells whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children_of(pid: int) -> list[int]:
    """Returns the children of all threads of a process."""
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (task / "children").read_text().split()]
    return children


class Server:
    """`procpool serve` in a process of its own."""

    def __init__(
        self,
        *arguments: str,
        command: list[str] | None = None,
        prefix: list[str] | None = None,
        environment: dict[str, str] | None = None,
    ):
        line = [*(prefix or []), str(PROCPOOL), "serve", "--listen", "127.0.0.1:0", "--log-format", "json", *arguments]
        environment = {**os.environ, **(environment or {})}
        environment |= {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{PROCPOOL.parent}:{os.environ['PATH']}"}
        self.process = subprocess.Popen(
            [*line, "--", *command] if command else line,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[dict] = []
        # A test that fails half-way must not leave what keeps pytest, or CI, from ending.
        weakref.finalize(self, self.process.kill)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        first = self.process.stdout.readline()
        assert first.startswith("listening on "), f"{first!r}, {self.log}"
        self.address = first.removeprefix("listening on ").strip()

    def _read_log(self) -> None:
        for line in self.process.stderr:
            self.log.append(json.loads(line) if line.startswith("{") else {"text": line})

    @property
    def pid(self) -> int:
        return self.process.pid

    def lines(self, message: str) -> list[dict]:
        """Returns the fields of the log lines with this message."""
        found = [line.get("fields", line) for line in list(self.log)]
        return [fields for fields in found if message in str(fields.get("message", ""))]

    def workers(self) -> list[int]:
        """Returns the pids of the workers that run now."""
        return [pid for pid in children_of(self.pid) if is_alive(pid)]

    def wait_ready(self, workers: int) -> list[int]:
        """Waits until so many workers have become ready."""
        wait_until(lambda: len(self.lines("worker is ready")) >= workers, f"{workers} workers ready")
        return self.workers()

    def stop(self) -> int:
        """Sends SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=PATIENCE)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            print(*self.log[-40:], sep="\n", file=sys.stderr)
        self.stop()
        assert not self._reader.is_alive()


def python_worker(module: str) -> list[str]:
    """Returns the command of a Python worker, as the README writes it."""
    return ["python", "-m", "procpool.worker", module]


def grpcurl(server: Server, *arguments: str, data: object = None, deadline: float = PATIENCE):
    """Runs grpcurl with no .proto file at hand; returns exit code, stdout and stderr."""
    line = [f"{sys.prefix}/bin/grpcurl", "-plaintext", "-max-time", str(deadline)]
    if data is not None:
        line += ["-d", data if isinstance(data, str) else json.dumps(data)]
    done = subprocess.run([*line, *arguments], capture_output=True, text=True, timeout=PATIENCE + deadline)
    return done.returncode, done.stdout, done.stderr


def call(server: Server, method: str, data: object) -> list[dict]:
    """Calls a method of the PoolService with grpcurl; returns the messages that it answers."""
    code, out, err = grpcurl(server, server.address, f"procpool.v1.PoolService/{method}", data=data)
    assert code == 0, err
    return parse_messages(out)


def parse_messages(text: str) -> list[dict]:
    """Parses JSON values that follow each other."""
    decoder, messages, position = json.JSONDecoder(), [], 0
    while position < len(text.rstrip()):
        message, position = decoder.raw_decode(text, position)
        messages.append(message)
        position += len(text[position:]) - len(text[position:].lstrip())
    return messages


@pytest.fixture(scope="module")
def rust_server():
    """A server with two built-in workers."""
    with Server("--processes", "2") as server:
        server.wait_ready(2)
        yield server


@pytest.fixture(scope="module")
def python_server():
    """A server with two workers that run examples/matches.py."""
    with Server("--processes", "2", command=python_worker("examples/matches.py")) as server:
        server.wait_ready(2)
        yield server


@pytest.fixture(scope="session")
def node() -> list[str]:
    """How to start a Node worker; what it needs is installed below target/, not in the tree."""
    source, target = ROOT / "examples/node-worker", TARGET / "node-worker"
    target.mkdir(parents=True, exist_ok=True)
    lock = (source / "package-lock.json").read_bytes()
    stamp = target / "installed.json"
    if not stamp.exists() or stamp.read_bytes() != lock:
        for name in ["package.json", "package-lock.json"]:
            shutil.copy(source / name, target / name)
        line = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(line, cwd=target, check=True)
        stamp.write_bytes(lock)
    return ["env", f"NODE_PATH={target / 'node_modules'}", "node"]


def plain(value: Any) -> Any:
    """Returns a `google.protobuf.Value` as a Python value."""
    kind = value.WhichOneof("kind")
    assert kind is not None, "an empty Value breaks whoever prints it"
    if kind == "list_value":
        return [plain(element) for element in value.list_value.values]
    if kind == "struct_value":
        return {key: plain(element) for key, element in value.struct_value.fields.items()}
    return None if kind == "null_value" else getattr(value, kind)


def as_doubles(value: Any) -> Any:
    """Returns a value as `google.protobuf.Value` has it."""
    if isinstance(value, list):
        return [as_doubles(element) for element in value]
    if isinstance(value, dict):
        return {key: as_doubles(element) for key, element in value.items()}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def is_same(left: Any, right: Any) -> bool:
    """Tells whether these are the same, types and signs of zero included: 1, 1.0 and True are equal to Python."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(is_same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(is_same(left[key], right[key]) for key in left)
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    return left == right and (not isinstance(left, float) or math.copysign(1, left) == math.copysign(1, right))
