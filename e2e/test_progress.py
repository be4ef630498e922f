"""The progress bar: on a terminal it tells count, rate and remaining time; in a pipe there is none."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest
from conftest import PATIENCE, PROCPOOL

# Forty items of 50 ms on two workers: long enough for a bar that is drawn ten times a second.
ITEMS = ["50"] * 40


def line_of(server, command):
    return [PROCPOOL, command, "--server", f"http://{server.address}", "sleep_ms", *arguments_of(command)]


def arguments_of(command):
    return [f"[{item}]" for item in ITEMS] if command == "starmap" else ITEMS


def read_all(terminal):
    """Returns what was written to a terminal until nobody had it open any more."""
    written = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            return written.decode()
        if not chunk:
            return written.decode()
        written += chunk


@pytest.mark.parametrize("command", ["map", "starmap", "imap"])
def test_a_terminal_has_a_bar_with_count_rate_and_remaining_time(rust_server, command):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    line = line_of(rust_server, command)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment) as process:
        os.close(theirs)
        written = read_all(ours)
        results = process.stdout.read().split()
        assert process.wait(timeout=PATIENCE) == 0
    os.close(ours)
    assert results == ITEMS
    counts = {int(count) for count in re.findall(r"(\d+)/40 items  +[\d.,]+/s  +\S+ left", written)}
    assert len(counts) > 2 and max(counts) <= 40, written


@pytest.mark.parametrize("command", ["map", "starmap", "imap"])
def test_a_pipe_has_none(rust_server, command):
    done = subprocess.run(line_of(rust_server, command), capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ITEMS, "")
