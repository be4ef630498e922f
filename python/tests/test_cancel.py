"""Cancelled: raised in the function that is meant, wherever it waits, and in nothing else. And dumps of the stacks."""

import os
import signal

import pytest
from fake_server import FUNCTIONS, FakeServer, decode_list

from procpool._proto import worker_pb2


def cancel(server, run):
    server.send(recall=worker_pb2.Recall(chunk=run.chunk, cancel=True))


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


@pytest.mark.parametrize("function", ["spin_for_microseconds", "raise_slowly"])
def test_no_other_item_is_ever_hit(server, function):
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
        items, failures = {}, {}
        expected = {victim.chunk: 1, innocent.chunk: 2}
        while any(len(items.get(chunk, [])) < count for chunk, count in expected.items()):
            frame = server.receive()
            assert frame is not None, server.error_output()
            if frame.WhichOneof("frame") == "recalled":
                assert frame.recalled.chunk == victim.chunk
                expected[victim.chunk] = frame.recalled.first_not_begun
                continue
            items[frame.results.chunk] = items.get(frame.results.chunk, []) + decode_list(frame.results.items)
            for failure in frame.results.failures:
                failures[frame.results.chunk] = failure.type
        assert items[innocent.chunk] == [20, 30]
        assert innocent.chunk not in failures
        outcomes.add(failures.get(victim.chunk, "ran"))
    if function == "spin_for_microseconds":
        assert "procpool.Cancelled" in outcomes
        assert outcomes <= {"procpool.Cancelled", "ran"}
    else:
        # It has raised already; what remains is the worker's to do, and nobody is interrupted in that.
        assert "functions_for_tests._SlowError" in outcomes
        assert outcomes <= {"procpool.Cancelled", "functions_for_tests._SlowError"}


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
    for _ in range(3):
        dump = server.dump()
        assert 'functions_for_tests.py"' in dump
        assert " in wait_in_c\n" in dump
        assert "Thread 0x" in dump, "there are others, which talk to the server"


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
