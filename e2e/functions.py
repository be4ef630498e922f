"""Functions that the end-to-end tests run in Python workers."""

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path


def echo(item):
    """Return the item."""
    return item


def kind(item):
    """Tell what Python type the item has here."""
    return type(item).__name__


def make(what):
    """Return something awkward."""
    return {
        "one": 1,
        "float": 1.0,
        "big": 2**53 + 1,
        "huge": 2**70 + 1,
        "nan": float("nan"),
        "infinity": float("inf"),
        "set": {1, 2},
        "bytes": b"bytes",
        "none": None,
        "nested": {"a": [1, {"b": None, "c": [[], {}]}], "": ""},
        "empty": {},
        "empty_list": [],
    }[what]


def pid(_):
    """Return the process id of the worker, after long enough for the others to take their share."""
    time.sleep(0.05)
    return os.getpid()


def call_back(address):
    """Call the server that this runs for, and return what the command line says to it."""
    command = ["procpool", "map", "--server", address, "echo", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr


def spin_ms(milliseconds):
    """Compute for so long."""
    end = time.monotonic() + milliseconds / 1000
    while time.monotonic() < end:
        pass
    return milliseconds


def note_and_wait(path):
    """Write down, in a file of its own, who runs; then wait to be released, cancelled or killed."""
    marker = Path(path)
    marker.write_text(str(os.getpid()))
    release = marker.with_suffix(".release")
    deadline = time.monotonic() + 60
    while not release.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    return marker.name


def start_children(_):
    """Start a child and a daemon that would outlive this worker, and tell who they are."""
    child = subprocess.Popen(["sleep", "1000"])
    daemon = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return [os.getpid(), child.pid, daemon.pid]


def hang_for_good(_):
    """Hang, and do not care about SIGTERM or `procpool.Cancelled`."""
    import procpool

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("hangs for good")
    while True:
        try:
            time.sleep(1)
        except procpool.Cancelled:
            print("hangs on")


def count(path):
    """Write a line to a file, and take a moment."""
    with open(path, "a") as file:
        file.write("ran\n")
    time.sleep(0.02)


def kill_worker_if(item):
    """Die by SIGKILL, if the item says so."""
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def hold(mebibytes):
    """Hold so much memory; if it is more than 100 MiB, until somebody does something about it."""
    memory = bytearray(b"x") * (mebibytes << 20)
    deadline = time.monotonic() + 60
    while mebibytes > 100 and time.monotonic() < deadline:
        time.sleep(0.005)
    return len(memory) >> 20


_leaked = []


def leak(mebibytes):
    """Lose so much memory; tell which process has lost it."""
    _leaked.append(bytearray(b"x") * (mebibytes << 20))
    time.sleep(0.01)
    return os.getpid()


_segments = []


def share(hang):
    """Make a segment of shared memory and keep it; tell its name, or hang."""
    from multiprocessing import resource_tracker, shared_memory

    segment = shared_memory.SharedMemory(create=True, size=4096, name=hang or None)
    _segments.append(segment)
    # The process that will remove it takes a while to start on a busy machine. It is there when it ignores SIGTERM.
    status = Path(f"/proc/{resource_tracker._resource_tracker._pid}/status")
    while not int(status.read_text().partition("SigIgn:")[2].split()[0], 16) >> signal.SIGTERM - 1 & 1:
        time.sleep(0.005)
    if hang:
        hang_for_good(hang)
    return segment.name


def stop_once(path):
    """Stop this process, as SIGSTOP does, the first time; tell who has run it."""
    with Path(path).open("a") as marker:
        first = marker.tell() == 0
        marker.write("x")
    if first:
        os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()


def stop_always(_):
    """Stop this process, again and again."""
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)


def leave(_):
    """Raise SystemExit."""
    raise SystemExit(3)


def interrupt(_):
    """Raise KeyboardInterrupt."""
    raise KeyboardInterrupt


def shout(item):
    """Print the item."""
    print(f"shouting {item}")


def traceparent(_):
    """Return the trace context that the function could continue."""
    import procpool

    return procpool.current().traceparent


def lookup(table, key):
    """Return what the table, a common argument, has for a key."""
    return table[key]


def scale(factor, first, second):
    """Multiply two numbers by a common argument."""
    return [factor * first, factor * second]


def witness(common, item):
    """Tell who runs the item, and which object `common` is; after long enough for the others to take their share."""
    time.sleep(0.01)
    return [os.getpid(), str(id(common)), item]


def collect(common, item):
    """Add the item to the common list, which the items after it see."""
    common.append(item)
    return list(common)


def join_bytes(common, item):
    """Join two blobs."""
    return common + item


def hang(item):
    """Write down who runs, and hang in the way that the item says; or just return it."""
    how, path = item
    Path(path).write_text(str(os.getpid()))
    if how == "spin":
        while True:
            pass
    elif how == "sleep":
        time.sleep(3600)
    elif how in ("c", "gil"):
        # A read that goes on after a signal, as C code does; with the interpreter lock, or without.
        library = ctypes.CDLL(None) if how == "c" else ctypes.PyDLL(None)
        reader, _writer = os.pipe()
        library.read(reader, ctypes.create_string_buffer(1), 1)
    elif how == "deaf":
        signal.signal(signal.SIGTERM, lambda *_: None)
        while True:
            try:
                time.sleep(3600)
            except BaseException:
                continue
    elif how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    return how


def _note_attempt(path):
    import procpool

    attempt = procpool.current().attempt
    with open(path, "a") as file:
        file.write(f"{attempt} {os.getpid()}\n")
    return attempt


def answer_late_once(path):
    """Answer after the time is up, the first time."""
    attempt = _note_attempt(path)
    try:
        time.sleep(3600 if attempt == 1 else 0)
    except BaseException:
        pass
    return f"attempt {attempt}"


def die_once(path):
    """Die by SIGKILL, the first time."""
    attempt = _note_attempt(path)
    if attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"attempt {attempt}"
