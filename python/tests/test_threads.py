"""What goes on beside the items: threads and signal handlers of the user's, and processes that functions fork."""

import os
import select
import signal

import pytest
from fake_server import PATIENCE_SECONDS, FakeServer, wait_until

MODULE = '''
import os, pathlib, signal, threading, time
from math import fabs

__all__ = ["fabs", "start_thread", "handle", "large", "fork_and_stay", "fork_in", "getpid"]
from os import getpid

MARKS = pathlib.Path(os.environ["MARKS"])

def start_thread(name):
    """Starts a thread that says `done` once somebody says `go`."""
    def run():
        while not (MARKS / f"{name}.go").exists():
            time.sleep(0.002)
        (MARKS / f"{name}.done").touch()
    threading.Thread(target=run, daemon=True).start()

def handle(what):
    def handler(number, frame):
        (MARKS / f"{what}.handled").touch()
        if what == "exit":
            raise SystemExit(7)
        if what == "raise":
            raise ValueError("from the handler")
    signal.signal(signal.SIGUSR1, handler)

def large(length):
    return "x" * int(length)

def fork_and_stay(_item):
    pid = os.fork()
    if pid == 0:
        while True:
            time.sleep(3600)
    return pid

class Forks:
    def tolist(self):
        self.pid = os.fork()
        return self.pid != 0

def fork_in(where):
    if where == "encoding":
        return Forks()
    if where == "raising":
        if os.fork() == 0:
            raise ValueError("in the child")
        return True
    if where == "thread":
        codes = []
        def run():
            pid = os.fork()
            if pid == 0:
                os._exit(3)
            codes.append(os.waitpid(pid, 0)[1])
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return codes == [3 << 8]
    return bool(os.fork())
'''


@pytest.fixture
def server(tmp_path):
    source = tmp_path / "beside.py"
    source.write_text(MODULE)
    with FakeServer(source) as server:
        yield server.until_ready()


def start_thread(server, name):
    server.values("start_thread", [name])
    server.mark(f"{name}.go").touch()


def test_threads_run_while_the_worker_is_idle(server):
    start_thread(server, "idle")
    server.wait_for_mark("idle.done")


def test_threads_run_while_functions_written_in_c_run(server):
    start_thread(server, "busy")
    numbers = [0.5] * 10_000
    # Never idle: the next chunk is there before this one ends.
    runs = [server.start_run("fabs", numbers)]

    def is_done():
        runs.append(server.start_run("fabs", numbers))
        assert server.finish(runs.pop(0)).items == numbers
        return server.mark("busy.done").exists()

    wait_until(is_done, "the thread to run")
    server.finish(runs.pop())


def test_threads_run_while_nobody_reads_the_results(server):
    server.values("start_thread", ["blocked"])
    run = server.start_run("large", [3e6, 3e6, 3e6])
    # The first result is being written, and is far longer than what fits into the socket.
    ready, _, _ = select.select([server.socket], [], [], PATIENCE_SECONDS)
    assert ready
    server.mark("blocked.go").touch()
    server.wait_for_mark("blocked.done")
    assert [len(item) for item in server.finish(run).items] == [3_000_000] * 3


def test_a_handler_of_the_users_runs_while_the_worker_is_idle(server):
    server.values("handle", ["quiet"])
    server.process.send_signal(signal.SIGUSR1)
    server.wait_for_mark("quiet.handled")
    assert server.values("fabs", [-1]) == [1]


@pytest.mark.parametrize(("what", "code"), [("exit", 7), ("raise", 70)])
def test_what_a_handler_raises_while_the_worker_is_idle_ends_it(server, what, code):
    server.values("handle", [what])
    server.process.send_signal(signal.SIGUSR1)
    assert server.receive() is None
    assert server.wait_for_exit() == code
    assert (what == "raise") == ("ValueError: from the handler" in server.error_output())


def test_a_forked_process_does_not_keep_the_channel_open(server):
    (pid,) = server.values("fork_and_stay", [0])
    try:
        server.process.kill()
        assert server.receive() is None
    finally:
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("where", ["calling", "encoding", "raising", "thread"])
def test_a_forked_process_never_answers(server, where):
    for _ in range(5):
        outcome = server.run("fork_in", [where] * 20)
        assert outcome.items == [True] * 20
        assert not outcome.failures
    assert server.values("getpid", [], encoded=b"") == []
    assert server.apply("getpid").items == [server.process.pid]
