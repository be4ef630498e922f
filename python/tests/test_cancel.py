"""Cancelled: raised in the function that is meant, wherever it waits, and in nothing else. And dumps of the stacks."""

import os
import signal

import pytest
import worker_pb2
from fake_server import FUNCTIONS, FakeServer, decode_list


def cancel(server, run, offset=None):
    """Cancel the whole chunk, or the one item whose time is up."""
    server.send(recall=worker_pb2.Recall(chunk=run.chunk, cancel=True, cancel_offset=offset))


@pytest.mark.parametrize("how", ["sleep", "spin", "lock", "program", "coroutine", "ask"])
def test_cancelled_is_raised_wherever_the_function_waits(server, how):
    run = server.start_run("wait_until_cancelled", [how, how])
    server.wait_for_mark("cancellable.began")
    cancel(server, run)
    assert server.expect("recalled").first_not_begun == 1
    failure = server.finish(run, count=1).failures[0]
    assert failure.type == "procpool.Cancelled"
    assert "in wait_until_cancelled" in failure.traceback
    assert server.mark("cancellable.cleaned").read_text() == "True"
    assert how != "coroutine" or server.mark("loop.cleaned").exists()
    assert server.values("echo", [1]) == [1]


def test_a_function_written_in_c_is_cancelled_too(tmp_path):
    source = tmp_path / "in_c.py"
    source.write_text("from time import sleep\nfrom os import getpid\n__all__ = ['sleep', 'getpid']\n")
    with FakeServer(source).until_ready() as server:
        run = server.start_run("sleep", [3600])
        while server.word(0) != run.first_sequence:
            pass
        cancel(server, run)
        server.expect("recalled")
        assert server.finish(run).failures[0].type == "procpool.Cancelled"
        assert server.apply("getpid").items == [server.process.pid]


def test_without_the_progress_page(tmp_path):
    with FakeServer(FUNCTIONS, journal_bytes=0).until_ready() as server:
        run = server.start_run("wait_until_cancelled", ["sleep"])
        server.expect("started")
        server.wait_for_mark("cancellable.began")
        cancel(server, run)
        server.expect("recalled")
        assert server.finish(run).failures[0].type == "procpool.Cancelled"


def test_it_is_raised_once_and_may_be_caught(server):
    run = server.start_run("swallow_cancelled", ["deaf"])
    server.wait_for_mark("deaf.began")
    cancel(server, run)
    server.wait_for_mark("deaf.caught")
    cancel(server, run)
    server.mark("deaf.end").touch()
    server.expect("recalled")
    assert server.finish(run).items == ["deaf"]
    assert server.values("echo", [1]) == [1]


def test_a_chunk_that_waits_is_cancelled_without_touching_the_one_that_runs(server):
    running = server.start_run("wait_for", ["wait1"])
    queued = server.start_run("echo", [1])
    server.wait_for_mark("wait1.began")
    cancel(server, queued)
    assert server.expect("recalled").first_not_begun == 0
    server.mark("wait1.end").touch()
    assert server.finish(running).items == ["wait1"]


class Answers:
    """What comes of chunks that are cancelled as they run."""

    def __init__(self, server, *runs):
        self.server = server
        self.counts = {run.chunk: run.count for run in runs}
        """How many items of each chunk will be answered."""
        self.outcomes = {run.chunk: [] for run in runs}
        """Results, and the types of errors, in order."""
        self.num_pongs = 0

    def receive(self):
        frame = self.server.receive()
        assert frame is not None, self.server.error_output()
        kind = frame.WhichOneof("frame")
        if kind == "recalled":
            self.counts[frame.recalled.chunk] = frame.recalled.first_not_begun
        elif kind == "results":
            failures = {failure.offset: failure.type for failure in frame.results.failures}
            for offset, item in enumerate(decode_list(frame.results.items), frame.results.first):
                self.outcomes[frame.results.chunk].append(failures.get(offset, item))
        elif kind == "pong":
            self.num_pongs += 1
        else:
            assert kind == "started", frame

    def until_pong(self):
        """Receive until the worker has read everything that was sent to it so far."""
        self.server.send(ping=worker_pb2.Ping())
        num_pongs = self.num_pongs
        while self.num_pongs == num_pongs:
            self.receive()

    def until_complete(self):
        while any(len(self.outcomes[chunk]) < count for chunk, count in self.counts.items()):
            self.receive()
        return [self.outcomes[chunk] for chunk in self.counts]


@pytest.mark.parametrize("journal_bytes", [64 << 10, 0])
def test_no_item_is_cancelled_for_the_one_before_it(journal_bytes):
    """The time of the first was up, and it has ended when the worker learns so."""
    with FakeServer(FUNCTIONS, journal_bytes=journal_bytes).until_ready() as server:
        run = server.start_run("wait_and_ask", ["wait1", "wait2", "wait3"])
        server.wait_for_mark("wait1.began")
        server.mark("wait1.end").touch()
        server.wait_for_mark("wait2.began")
        answers = Answers(server, run)
        for offset in [0, 2, 1_000_000]:
            cancel(server, run, offset)
        answers.until_pong()
        server.mark("wait2.end").touch()
        assert answers.until_complete() == [[["wait1", False], ["wait2", False]]]
        # Nor is anything kept for later items at these places.
        later = server.start_run("wait_and_ask", ["a", "b", "c"])
        assert Answers(server, later).until_complete() == [[["a", False], ["b", False], ["c", False]]]


def test_the_second_item_of_a_chunk_is_cancelled_when_it_is_meant(server):
    run = server.start_run("wait_and_ask", ["first", "wait2", "third"])
    server.wait_for_mark("wait2.began")
    cancel(server, run, 1)
    assert Answers(server, run).until_complete() == [[["first", False], "procpool.Cancelled"]]


def test_an_item_whose_time_was_up_is_not_hit_again_when_its_caller_goes(server):
    run = server.start_run("swallow_cancelled", ["deaf"])
    server.wait_for_mark("deaf.began")
    cancel(server, run, 0)
    server.wait_for_mark("deaf.caught")
    answers = Answers(server, run)
    cancel(server, run)
    answers.until_pong()
    server.mark("deaf.end").touch()
    assert answers.until_complete() == [["deaf"]]


def test_an_interruption_that_is_late_hits_nobody(server):
    """Whoever sends the signal, and whenever: only an item that is cancelled is hit."""
    run = server.start_run("wait_and_ask", ["wait1", "wait2"])
    for mark in ("wait1", "wait2"):
        server.wait_for_mark(f"{mark}.began")
        for _ in range(20):
            server.process.send_signal(signal.SIGRTMAX - 3)
        server.mark(f"{mark}.end").touch()
    assert server.finish(run).items == [["wait1", False], ["wait2", False]]


@pytest.mark.parametrize("function", ["spin_for_microseconds", "raise_slowly"])
def test_no_other_chunk_is_ever_hit(server, function):
    """Whatever the moment: what was not cancelled has its own outcome, and the worker lives."""
    outcomes = set()
    for attempt in range(300):
        # Most end about when they are cancelled; some run for so long that they must be.
        microseconds = 3_600_000_000 if function == "spin_for_microseconds" and attempt % 50 == 49 else 10 * attempt
        victim = server.start_run(function, [microseconds])
        innocent = server.start_run("spin_for_microseconds", [20, 30])
        while server.word(0) < victim.first_sequence:
            pass
        cancel(server, victim)
        of_victim, of_innocent = Answers(server, victim, innocent).until_complete()
        assert of_innocent == [20, 30]
        outcomes.add(of_victim[0] if isinstance(of_victim[0], str) else "ran")
    if function == "spin_for_microseconds":
        assert "procpool.Cancelled" in outcomes
        assert outcomes <= {"procpool.Cancelled", "ran"}
    else:
        # It has raised already; what remains is the worker's to do, and nobody is interrupted in that.
        assert "functions_for_tests._SlowError" in outcomes
        assert outcomes <= {"procpool.Cancelled", "functions_for_tests._SlowError"}


def test_no_item_of_the_same_chunk_is_ever_hit(server):
    """The same for an item whose time is up: its neighbours run, here or elsewhere."""
    for attempt in range(300):
        run = server.start_run("spin_for_microseconds", [10 * attempt, 300, 20])
        while server.word(0) < run.first_sequence:
            pass
        cancel(server, run, 0)
        [outcomes] = Answers(server, run).until_complete()
        assert outcomes[0] in (10 * attempt, "procpool.Cancelled")
        assert outcomes[1:] == [300, 20][: len(outcomes) - 1]


def test_sigterm_ends_a_function_that_swallows_everything(server):
    run = server.start_run("swallow_cancelled", ["deaf"])
    server.wait_for_mark("deaf.began")
    cancel(server, run)
    server.wait_for_mark("deaf.caught")
    server.process.terminate()
    assert server.wait_for_exit() == -signal.SIGTERM


@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_a_dump_shows_where_c_code_waits(server, library):
    server.start_run("wait_in_c", [[library, "c"]], style=worker_pb2.CALL_STYLE_STAR)
    server.wait_for_mark("c.began")
    # Each as soon as the one before it is whole.
    for _ in range(50):
        dump = server.dump()
        assert 'functions_for_tests.py"' in dump
        assert " in wait_in_c\n" in dump
        assert "hread 0x" in dump


def test_a_dump_of_an_idle_worker_does_not_disturb_it(server):
    for number in range(20):
        assert server.dump().endswith(server.hello.dump_end)
        assert server.values("echo", [number]) == [number]


def test_a_deep_stack_is_cut(server):
    server.start_run("recurse", [[500, "wait_deep"]], style=worker_pb2.CALL_STYLE_STAR)
    server.wait_for_mark("wait_deep.began")
    # What comes after that is another word in every version of Python.
    dump = server.dump(is_whole=lambda text: text.count(" in recurse\n") > 50)
    assert not dump.endswith(server.hello.dump_end)


def test_a_pipe_that_nobody_reads_does_not_stop_the_worker(server):
    for _ in range(200):
        server.process.send_signal(server.hello.dump_signal)
        server.values("echo", [1])
    assert len(os.read(server.dump_reader, 1 << 20)) <= 64 << 10


def test_without_the_pipe_there_are_no_dumps():
    with FakeServer(FUNCTIONS, dump_pipe=False).until_ready() as server:
        assert server.hello.dump_signal == 0
