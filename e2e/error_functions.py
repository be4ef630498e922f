"""Functions that fail in every way that errors.json has; their names are those of the Rust worker of the same test."""

import os
import signal
import socket
import stat
import time


def repeat(count):
    """Return a long text."""
    return "x" * int(count)


def nan(_):
    """Return what is no JSON."""
    return float("nan")


def sleep_ms(milliseconds):
    """Take a moment."""
    time.sleep(milliseconds / 1000)


def raise_error(message):
    """Raise ValueError."""
    raise ValueError(message)


def crash(_):
    """Die by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def crash_with(common, _):
    """Die by SIGKILL."""
    crash(common)


def exit_zero(_):
    """Exit as if all were well."""
    os._exit(0)


def grow(_):
    """Hold more and more memory."""
    held = []
    while True:
        held.append(b"x" * (16 << 20))
        time.sleep(0.01)


def hang(_):
    """Never return."""
    while True:
        time.sleep(1)


if os.environ.get("ERROR_FUNCTIONS_GARBLE"):

    def echo(_):
        """Write to the worker's channel what is no frame."""
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            try:
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    channel = socket.socket(fileno=os.dup(descriptor))
                    channel.sendall(b"\xff" * 64)
            except OSError:
                pass
        time.sleep(60)

else:

    def echo(item):
        """Return the item."""
        return item
