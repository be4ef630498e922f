"""Functions that do what users' functions do, for better or worse."""

import asyncio
import collections
import ctypes
import dataclasses
import datetime
import decimal
import enum
import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from math import inf, nan, pi  # noqa: F401
from os.path import join  # noqa: F401
from pathlib import Path

import procpool

MARKS = Path(os.environ.get("MARKS", "/nonexistent"))


class NotExposed:
    pass


class OddError(Exception):
    def __str__(self):
        raise RuntimeError("no message for you")


@dataclasses.dataclass
class Point:
    x: int
    y: object


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


Pair = collections.namedtuple("Pair", "first second")


class Scalar:
    def item(self):
        return 2.5


class Broken:
    def tolist(self):
        raise KeyError("nothing here")


class Selfish:
    def tolist(self):
        return self


def echo(item):
    """Return the item."""
    return item


def no_op(item):
    return item


def describe_type(item):
    return f"{type(item).__name__} {item!r}"


def add(first: int, second: int = 10, *, scale: float = 1) -> float:
    """Add two numbers.

    The second paragraph stays.
    """
    return (first + second) * scale


def joined(*parts: str, **named: str) -> str:
    return ",".join([*parts, *(f"{key}={value}" for key, value in sorted(named.items()))])


def keywords(**named):
    """Return what it was given by name."""
    return named


def produce(name):
    """Return something awkward."""
    cyclic = []
    cyclic.append(cyclic)
    deep = []
    for _ in range(60):
        deep = [deep]
    return {
        "big": 2**53 + 1,
        "small": -(2**53) - 1,
        "huge": 10**5000,
        "limit": 2**53 - 1,
        "nan": nan,
        "inf in list": [1, {"a": -inf}],
        "set": {"a": [0, 1, 2, {1, 2}]},
        "bytes": b"abc",
        "generator": (i for i in range(3)),
        "coroutine": asyncio.sleep(0),
        "int keys": {1: 2},
        "surrogate": "a\ud800",
        "cyclic": cyclic,
        "deep": deep,
        "point": Point(1, Point(2, [Color.RED, Level.HIGH])),
        "pair": Pair(1, "x"),
        "date": datetime.date(2026, 1, 2),
        "datetime": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "decimal": decimal.Decimal("1.5"),
        "scalar": Scalar(),
        "broken": Broken(),
        "selfish": Selfish(),
        "object": object(),
        "class": NotExposed,
        "tuple": (1, (2, 3)),
        "range": range(3),
        "counter": collections.Counter("aab"),
        "proxy": type.__dict__["__dict__"].__get__(NotExposed),
        "ordered": collections.OrderedDict(b=1, a=2),
    }[name]


@procpool.function(nan="null", idempotent=True, example=[0.5], name="nan_as_null")
def _nan_as_null(name):
    """Return NaN as None."""
    return {"nan": nan, "list": [1, inf, {"a": nan}], "set": {1}}[name]


def no_such_name_error(item):
    return undefined_name  # noqa: F821


def raise_error(kind):
    if kind == "value":
        raise ValueError("bad value")
    if kind == "exit":
        sys.exit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "generator exit":
        raise GeneratorExit
    if kind == "stop":
        raise StopIteration
    if kind == "odd":
        raise OddError
    if kind == "cancelled":
        raise procpool.Cancelled
    if kind == "surrogate":
        raise ValueError("a\ud800")
    if kind == "long":
        raise ValueError("x" * 1_000_000)
    if kind == "decimal":
        raise decimal.InvalidOperation("no")
    if kind == "chained":
        try:
            raise_error("value")
        except ValueError as error:
            raise LookupError("outer") from error
    if kind == "recursion":
        raise_error(kind)
    if kind == "many frames":
        exec("\n".join(f"def f{i}(): f{i + 1}()" for i in range(600)) + "\ndef f600(): 1/0\nf0()", {})
    return kind


def fail_on_odd(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


async def async_double(number):
    """Double without haste."""
    await asyncio.sleep(0)
    return 2 * number


def generate(number):
    yield from range(number)


def repeat(text, count):
    return text * count


def blob_repeat(blob):
    return blob * 1000


def as_bytearray(blob):
    return memoryview(bytearray(blob))


def as_text(blob):
    return "text"


def show_current(item):
    current = procpool.current()
    return [current.index, current.attempt, current.chunk, current.function, current.traceparent]


def wait_for(mark):
    """Say that it began, then wait until it may end. A plain string ends at once."""
    if not mark.startswith("wait"):
        return mark
    (MARKS / f"{mark}.began").touch()
    while not (MARKS / f"{mark}.end").exists():
        time.sleep(0.002)
    return mark


def wait_and_ask(mark):
    """As wait_for; tells whether it is cancelled."""
    return [wait_for(mark), procpool.cancelled()]


def spin_for(mark):
    """As wait_for, but computing, with the interpreter lock held."""
    if not mark.startswith("wait"):
        return mark
    (MARKS / f"{mark}.began").touch()
    for rounds in itertools.count():
        if rounds % 10_000 == 0 and (MARKS / f"{mark}.end").exists():
            return mark


def wait_until_cancelled(how):
    """Waits in one of many ways, and cleans up in the end."""
    try:
        (MARKS / "cancellable.began").touch()
        WAYS_TO_WAIT[how]()
    finally:
        (MARKS / "cancellable.cleaned").write_text(str(procpool.cancelled()))
    return how


def _spin():
    while True:
        pass


def _wait_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _ask():
    """Ask from another thread, which Cancelled does not reach."""
    said = []

    def ask():
        while not procpool.cancelled():
            time.sleep(0.002)
        said.append("yes")

    threading.Thread(target=ask).start()
    try:
        time.sleep(3600)
    finally:
        while not said:
            time.sleep(0.002)


async def _sleep_in_a_loop():
    try:
        await asyncio.sleep(3600)
    finally:
        (MARKS / "loop.cleaned").touch()


WAYS_TO_WAIT = {
    "sleep": lambda: time.sleep(3600),
    "spin": _spin,
    "lock": _wait_for_a_lock,
    "program": lambda: subprocess.run(["sleep", "3600"], check=False),
    "coroutine": lambda: asyncio.run(_sleep_in_a_loop()),
    "ask": _ask,
}


def swallow_cancelled(mark):
    """Does not want to end."""
    (MARKS / f"{mark}.began").touch()
    while not (MARKS / f"{mark}.end").exists():
        try:
            time.sleep(3600)
        except BaseException:
            (MARKS / f"{mark}.caught").touch()
            while not (MARKS / f"{mark}.end").exists():
                time.sleep(0.002)
    return mark


def spin_for_microseconds(microseconds):
    """A function that ends just when it may be cancelled."""
    end = time.perf_counter() + microseconds / 1e6
    while time.perf_counter() < end:
        pass
    return microseconds


def raise_slowly(microseconds):
    """Raises what takes a while to describe."""
    raise _SlowError(microseconds)


class _SlowError(Exception):
    def __str__(self):
        spin_for_microseconds(self.args[0])
        return "slow"


def wait_in_c(library, mark):
    """Waits in C code; with "PyDLL", the interpreter lock is held meanwhile."""
    reader, _writer = os.pipe()
    (MARKS / f"{mark}.began").touch()
    getattr(ctypes, library)(None).read(reader, ctypes.create_string_buffer(1), 1)


def recurse(depth, mark):
    return recurse(depth - 1, mark) if depth else wait_for(mark)


def shout(number):
    for _ in range(20):
        print("x" * 2000, number)
        print("y" * 2000, number, file=sys.stderr)
    return number


def start_program(seconds):
    """Leave a program behind that outlives the worker."""
    return subprocess.Popen(["sleep", str(seconds)], start_new_session=True, close_fds=False).pid


def fork_and_return(item):
    pid = os.fork()
    if pid == 0:
        return "child"
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def from_other_threads(count):
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(procpool.current().index)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def interrupt_myself(item):
    os.kill(os.getpid(), 2)
    return item


def environment(name):
    return os.environ.get(name)


def initialize():
    (MARKS / "initialized").touch()


def initialize_badly():
    raise RuntimeError("no database")


def _private(item):
    return item


def pair(common, item):
    """Return both, in this order."""
    return [common, item]


def identity_of(common, _item):
    """Tell which object `common` is."""
    return str(id(common))


def remember(common, item):
    """Add the item to `common`; return what it holds then."""
    common.append(item)
    return list(common)


def join_with(separator, left, right):
    """Join two texts."""
    return f"{left}{separator}{right}"


def pair_bytes(common, item):
    """Join two blobs."""
    return common + b"|" + item


def resident_kib(_item=None):
    """Return how much memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def return_or_measure(what):
    """Return a large text, or raise with one at hand, or tell how much memory is held."""
    if what == "measure":
        return resident_kib()
    # More than the C library ever keeps of one block that was freed.
    text = what[0] * 40_000_000
    if what == "raise":
        raise ValueError(text[:10])
    return text


def leave_memory(num_bytes):
    """Let this process take so much more address space than it has, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def end_after_computing(seconds):
    """Let this process end when it has computed for so long from now on, whatever the machine does besides."""
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def num_common(common, _item):
    """Tell how long `common` is."""
    return len(common)


def take_two(first, second):
    return None
