"""The Python worker of the chaos run: what chaos/src/bin/chaos_worker.rs says of itself holds here, too."""

import ctypes
import os
import resource
import subprocess
import time

import procpool

DIRECTORY = os.environ["CHAOS_DIRECTORY"]
IS_IDEMPOTENT = "CHAOS_IDEMPOTENT" in os.environ
MEMORY_ROOM = 64 << 20
FOR_EVER = 120


def _open(name):
    return os.open(os.path.join(DIRECTORY, name), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)


_HISTORY = _open("history")
_VICES = _open("vices")


def _record(file, kind, item, began, moment):
    line = f"{kind} {item:>10} {os.getpid():>10} {began:>18} {moment:>18}"
    os.write(file, f"{line:<63}\n".encode())


def _is_first_time(item):
    try:
        os.close(os.open(os.path.join(DIRECTORY, f"token-{item}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return True
    except FileExistsError:
        return False


def _send(data):
    [channel] = [int(fd) for fd in os.listdir("/proc/self/fd") if _is_socket(fd)]
    os.write(channel, data)


def _is_socket(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    except FileNotFoundError:
        return False


def _allocate_until_dead():
    with open("/proc/self/statm") as statm:
        limit = int(statm.read().split()[0]) * resource.getpagesize() + MEMORY_ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    kept = []
    try:
        while True:
            kept.append(b"x" * (1 << 20))
    except MemoryError:
        os.abort()


def _leak():
    kept = []
    while True:
        kept.append(b"x" * (1 << 20))
        time.sleep(0.001)


def _misbehave(vice, item, began):
    _record(_VICES, "V", item, began, time.monotonic_ns())
    if vice == "segv":
        ctypes.string_at(0)
    elif vice == "exit":
        os._exit(0)
    elif vice == "memory":
        _allocate_until_dead()
    elif vice == "leak":
        _leak()
    elif vice == "garbage":
        _send(b"\x00\x00\x00\x06\xff\xff\xff\xff\xff\xff")
    elif vice == "giant":
        _send(b"\xff\xff\xff\xff")
    elif vice == "torn":
        _send(b"\x00\x00\x10\x00\x22")
        os._exit(0)
    time.sleep(FOR_EVER)


@procpool.function(idempotent=IS_IDEMPOTENT)
def python_work_star(item, nonce, task, microseconds):
    """Do what the task says, and answer the nonce."""
    began = time.monotonic_ns()
    _record(_HISTORY, "S", item, began, began)
    vice, has_vice, times = task.partition("!")
    if has_vice and (times != "once" or _is_first_time(item)):
        _misbehave(vice, item, began)
    if microseconds:
        time.sleep(microseconds / 1e6)
    if task == "print":
        print(f"item {item} says that it is there")
    _record(_HISTORY, "F", item, began, time.monotonic_ns())
    if task == "raise":
        raise ValueError(f"item {item} was asked to fail")
    return [item, (nonce * 31 + item) % 1_000_003, os.getpid(), began]


@procpool.function(idempotent=IS_IDEMPOTENT)
def python_work(item):
    """Do what the task says, and answer the nonce."""
    return python_work_star(*item)


def python_pid(milliseconds):
    """Tell who runs this, after long enough for the others to take their share."""
    time.sleep(milliseconds / 1000)
    return os.getpid()


def python_length(item):
    """Return the length of bytes."""
    return str(len(item)).encode()


def python_brood(_):
    """Start children that outlive this worker, unless somebody ends them; tell everybody's pid."""
    line = ["sleep", "1000"]
    children = [subprocess.Popen(line)]
    os.close(_open("brood"))
    # Nothing of ours is left in these: no environment, then no process group, and then no parent either.
    children.append(subprocess.Popen(line, env={}))
    children.append(subprocess.Popen(line, start_new_session=True))
    children.append(subprocess.Popen(line, start_new_session=True, env={}))
    script = "exec 3>&1 >/dev/null; setsid sleep 1000 3>&- & echo $! >&3"
    orphan = subprocess.run(["sh", "-c", script], env={}, stdout=subprocess.PIPE, check=True)
    time.sleep(0.1)
    return [os.getpid(), *(child.pid for child in children), int(orphan.stdout)]
