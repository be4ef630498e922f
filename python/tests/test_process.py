"""The worker as a process: recall, cancel, death, the progress page, signals, output, and its end."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import worker_pb2
from fake_server import FUNCTIONS, SOURCE, FakeServer, decode_list, encode_list, wait_until

EVERY_WAIT = pytest.mark.parametrize("function", ["wait_for", "spin_for"])


def recall(server, run, cancel=False):
    server.send(recall=worker_pb2.Recall(chunk=run.chunk, cancel=cancel))


def receive_until(server, kind):
    """Return the results that came first, and then the frame of this kind."""
    earlier = []
    while True:
        frame = server.receive()
        assert frame is not None, server.error_output()
        if frame.WhichOneof("frame") == kind:
            return earlier, getattr(frame, kind)
        earlier.append(frame.results)


@EVERY_WAIT
def test_recall_gives_back_what_has_not_begun(server, function):
    run = server.start_run(function, ["a", "b", "wait1", "c", "d"])
    server.wait_for_mark("wait1.began")
    recall(server, run)
    earlier, recalled = receive_until(server, "recalled")
    assert (recalled.chunk, recalled.first_not_begun) == (run.chunk, 3)
    server.mark("wait1.end").touch()
    items = [item for results in earlier for item in decode_list(results.items)]
    while len(items) < 3:
        items += decode_list(server.expect("results").items)
    assert items == ["a", "b", "wait1"]
    # Nothing more comes of that chunk, not even for a second Recall.
    recall(server, run)
    assert server.values("echo", [1]) == [1]


def test_a_recalled_chunk_is_answered_once_and_a_finished_one_never(server):
    run = server.start_run("swallow_cancelled", ["wait1", "a"])
    server.wait_for_mark("wait1.began")
    recall(server, run)
    recall(server, run, cancel=True)
    assert server.expect("recalled").first_not_begun == 1
    server.send(ping=worker_pb2.Ping(nonce=5))
    assert server.expect("pong").nonce == 5
    server.mark("wait1.end").touch()
    assert server.finish(run, count=1).items == ["wait1"]
    recall(server, run)
    recall(server, worker_pb2.Run(chunk=999))
    server.send(ping=worker_pb2.Ping(nonce=6))
    assert server.expect("pong").nonce == 6


def test_recall_of_a_chunk_whose_last_item_runs_gives_back_nothing(server):
    run = server.start_run("wait_for", ["a", "wait1"])
    server.wait_for_mark("wait1.began")
    recall(server, run)
    _, recalled = receive_until(server, "recalled")
    assert recalled.first_not_begun == 2


def test_recall_of_a_queued_chunk_gives_back_all_of_it(server):
    running = server.start_run("wait_for", ["wait1"])
    queued = server.start_run("echo", [1, 2])
    last = server.start_run("echo", [3])
    server.wait_for_mark("wait1.began")
    recall(server, queued)
    recalled = server.expect("recalled")
    assert (recalled.chunk, recalled.first_not_begun) == (queued.chunk, 0)
    server.mark("wait1.end").touch()
    assert server.finish(running).items == ["wait1"]
    assert server.finish(last).items == [3]


def test_recall_is_exact_while_short_items_run(server):
    """Whatever the moment: each item has either a result or was given back."""
    for attempt in range(150):
        count = 3000
        run = server.start_run("no_op", list(range(count)))
        time.sleep(attempt * 10e-6)  # Not to wait for anything: to recall at another moment each time.
        recall(server, run)
        server.send(ping=worker_pb2.Ping(nonce=attempt))
        items, expected = [], count
        recalled = pong = False
        while len(items) < expected or not pong:
            frame = server.receive()
            kind = frame.WhichOneof("frame")
            if kind == "results":
                assert frame.results.first == len(items)
                items += decode_list(frame.results.items)
            elif kind == "recalled":
                expected, recalled = frame.recalled.first_not_begun, True
                assert len(items) <= expected
            else:
                pong = True
        assert items == list(range(expected))
        assert recalled or expected == count
    assert server.values("echo", [1]) == [1]


@EVERY_WAIT
def test_results_do_not_wait_for_a_long_item(server, function):
    run = server.start_run(function, ["a", "b", "wait1", "c"])
    results = server.expect("results")
    items = decode_list(results.items)
    while len(items) < 2:
        items += decode_list(server.expect("results").items)
    assert items == ["a", "b"]
    server.wait_for_mark("wait1.began")
    wait_until(lambda: server.word(1) == 0, "the journal to be emptied after it was sent")
    server.mark("wait1.end").touch()
    while len(items) < 4:
        results = server.expect("results")
        assert results.first == len(items)
        items += decode_list(results.items)
    assert items == ["a", "b", "wait1", "c"]
    assert results.chunk == run.chunk


def test_short_items_come_in_few_frames(server):
    outcome = server.run("no_op", list(range(2000)))
    assert len(outcome.frames) < 50
    assert all(frame.busy_ns > 0 for frame in outcome.frames)


def test_busy_time_is_that_of_the_items(server):
    started = time.monotonic_ns()
    run = server.start_run("wait_for", ["a", "wait1", "b"])
    server.wait_for_mark("wait1.began")
    time.sleep(0.05)  # The time that is measured.
    server.mark("wait1.end").touch()
    outcome = server.finish(run)
    assert 50e6 <= outcome.busy_ns <= time.monotonic_ns() - started
    # A later chunk does not count the time in between.
    time.sleep(0.05)
    assert server.run("no_op", [1]).busy_ns < 40e6


@pytest.mark.parametrize("finished", [0, 1, 7])
def test_the_page_tells_after_sigkill_what_finished_and_what_ran(finished):
    items = [f"item {index}" for index in range(finished)]
    with FakeServer() as server:
        server.until_ready()
        run = server.start_run("wait_for", [*items, "wait1", "never"], stamp_start=True, first_sequence=500)
        before = time.monotonic_ns()
        server.wait_for_mark("wait1.began")
        server.process.kill()
        server.process.wait()
        assert server.word(0) == 500 + finished
        assert 0 <= time.monotonic_ns() - server.word(3) <= time.monotonic_ns() - before + 10**9
        sent = []
        while (frame := server.receive()) is not None:
            assert frame.results.first == len(sent)
            assert frame.results.chunk == run.chunk
            sent += decode_list(frame.results.items)
        if server.word(1):
            first = server.word(2) - 500
            sent[first:] = decode_list(server.journal())
        assert sent == items


def test_the_page_is_exact_whenever_a_worker_is_killed():
    """Results and journal together are the items before the one that had begun, no more and no less."""
    # Results of all lengths, numbers among them, so that the journal fills up, is sent and refilled.
    items = [index if index % 3 else "x" * (index % 200) for index in range(50_000)]
    encoded = encode_list(items)
    for attempt in range(25):
        with FakeServer() as server:
            server.until_ready()
            server.start_run("no_op", items, encoded=encoded, first_sequence=1000)
            finished = server.expect("results").count
            time.sleep(attempt * 0.4e-3)  # Not to wait for anything: to kill it at another moment each time.
            server.process.kill()
            server.process.wait()
            begun = server.word(0) - 1000
            while True:
                try:
                    frame = server.receive()
                except AssertionError:
                    break  # Half a frame; its results are still in the journal.
                if frame is None:
                    break
                finished = frame.results.first + frame.results.count
            if server.word(1):
                first = server.word(2) - 1000
                assert first <= finished
                journal = decode_list(server.journal())
                assert journal == items[first : first + len(journal)]
                finished = max(finished, first + len(journal))
            assert finished < len(items), "it was killed too late"
            # The one that had begun may have finished, too, and then its result was sent.
            assert begun <= finished <= begun + 1


def test_begin_is_on_the_page_before_the_function_runs(server):
    run = server.start_run("wait_for", ["a", "wait1"], first_sequence=90_000)
    server.wait_for_mark("wait1.began")
    assert server.word(0) == 90_001
    server.mark("wait1.end").touch()
    server.finish(run)


def test_without_a_page_every_item_is_announced():
    with FakeServer(journal_bytes=0) as server:
        server.until_ready()
        assert not server.hello.uses_progress_page
        run = server.start_run("fail_on_odd", [0, 1, 2])
        for offset in range(3):
            started = server.expect("started")
            assert (started.chunk, started.offset) == (run.chunk, offset)
            results = server.expect("results")
            assert (results.first, results.count, len(results.failures)) == (offset, 1, offset % 2)
        run = server.start_run("wait_for", ["wait1", "a"])
        assert server.expect("started").offset == 0
        recall(server, run)
        assert server.expect("recalled").first_not_begun == 1
        server.mark("wait1.end").touch()
        assert server.finish(run, count=1).items == ["wait1"]


def test_a_page_that_is_too_small_is_not_used():
    with FakeServer(journal_bytes=0, welcome=False) as server:
        server.journal_bytes = 1 << 20
        os.ftruncate(server.memory_fd, 100)
        server.send_welcome(1 << 20, 65 << 20)
        server.until_ready()
        assert not server.hello.uses_progress_page


def test_a_worker_can_connect_by_path():
    with FakeServer(by_path=True) as server:
        server.until_ready()
        assert server.hello.uses_progress_page
        assert server.values("echo", [1]) == [1]
        assert server.values("environment", ["PROCPOOL_SOCKET", "PROCPOOL_FD"]) == [None, None]


@pytest.mark.parametrize("state", ["idle", "wait_for", "spin_for", "import"])
def test_a_worker_ends_when_the_server_hangs_up(state, tmp_path):
    slow = tmp_path / "slow_import.py"
    slow.write_text(
        "import os, pathlib, time\n(pathlib.Path(os.environ['MARKS']) / 'wait1.began').touch()\ntime.sleep(60)\n"
    )
    with FakeServer(slow if state == "import" else FUNCTIONS) as server:
        if state != "import":
            server.until_ready()
        if state in ("wait_for", "spin_for"):
            server.start_run(state, ["a", "wait1"])
        if state != "idle":
            server.wait_for_mark("wait1.began")
        server.socket.shutdown(socket.SHUT_RDWR)
        assert server.wait_for_exit() == 0


def test_a_program_that_the_function_started_does_not_keep_the_channel_open():
    with FakeServer() as server:
        server.until_ready()
        (pid,) = server.values("start_program", [60])
        try:
            server.process.kill()
            assert server.receive() is None
        finally:
            os.kill(int(pid), signal.SIGKILL)


def test_shutdown_finishes_the_item_that_runs(server):
    run = server.start_run("wait_for", ["a", "wait1", "never"])
    queued = server.start_run("echo", [1])
    server.wait_for_mark("wait1.began")
    server.send(shutdown=worker_pb2.Shutdown())
    server.send(ping=worker_pb2.Ping(nonce=1))
    items = [item for results in receive_until(server, "pong")[0] for item in decode_list(results.items)]
    server.mark("wait1.end").touch()
    while (frame := server.receive()) is not None:
        assert frame.results.chunk == run.chunk != queued.chunk
        items += decode_list(frame.results.items)
    assert items == ["a", "wait1"]
    assert server.wait_for_exit() == 0
    assert server.error_output() == ""


def test_an_idle_worker_shuts_down(server):
    server.send(shutdown=worker_pb2.Shutdown())
    assert server.receive() is None
    assert server.wait_for_exit() == 0


def test_ctrl_c_is_not_for_workers_but_sigterm_is(server):
    server.process.send_signal(signal.SIGINT)
    assert server.values("interrupt_myself", [1, 2]) == [1, 2]
    run = server.start_run("wait_for", ["wait1"])
    server.wait_for_mark("wait1.began")
    server.process.send_signal(signal.SIGINT)
    server.mark("wait1.end").touch()
    assert server.finish(run).items == ["wait1"]
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_for_exit() == -signal.SIGTERM


def test_output_appears_as_it_is_printed_and_disturbs_nothing(server):
    assert server.values("shout", list(range(20))) == list(range(20))
    assert server.output().count("\n") == 400
    assert server.error_output().count("\n") == 400


def test_a_forked_copy_that_comes_back_ends_and_the_worker_goes_on(server):
    assert server.values("fork_and_return", [0, 0]) == [1, 1]
    assert "a process forked by the function returned from it" in server.error_output()
    assert server.values("echo", [1]) == [1]


def test_pings_are_answered_while_an_item_computes(server):
    run = server.start_run("spin_for", ["wait1"])
    server.wait_for_mark("wait1.began")
    for nonce in range(50):
        server.send(ping=worker_pb2.Ping(nonce=nonce))
        assert server.expect("pong").nonce == nonce
    server.mark("wait1.end").touch()
    server.finish(run)


def test_an_idle_worker_sleeps(server):
    server.values("no_op", list(range(100)))

    def cpu_ticks():
        fields = (server_proc(server) / "stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def switches():
        return sum(
            int(line.split()[1])
            for task in (server_proc(server) / "task").iterdir()
            for line in (task / "status").read_text().splitlines()
            if "ctxt_switches" in line
        )

    run = server.start_run("wait_for", ["wait1"])
    server.wait_for_mark("wait1.began")
    server.mark("wait1.end").touch()
    server.finish(run)
    before, ticks = switches(), cpu_ticks()
    time.sleep(0.5)  # The time in which it shall do nothing.
    # The I/O thread looks a few times before it sleeps; one that polled would be seen 500 times.
    assert switches() - before < 100
    assert cpu_ticks() - ticks <= 2


def server_proc(server):
    return Path(f"/proc/{server.process.pid}")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (struct.pack(">I", 0xFFFFFFFF), "a frame of 4294967295 bytes is over the limit"),
        (struct.pack(">I", 4) + b"\xff\xff\xff\xff", "malformed frame: "),
        (struct.pack(">I", 0), "empty or unknown frame"),
    ],
)
def test_a_server_that_breaks_the_protocol_ends_the_worker(server, data, complaint):
    server.socket.sendall(data)
    assert server.receive() is None
    assert server.wait_for_exit() == 70
    assert server.error_output().startswith(f"procpool.worker: the server broke the protocol: {complaint}")
    assert server.error_output().count("\n") == 1


def test_another_version_of_the_protocol_is_refused():
    with FakeServer(welcome=False) as server:
        server.send(welcome=worker_pb2.Welcome(protocol_version=2, max_frame_bytes=1 << 20))
        assert server.receive() is None
        assert server.wait_for_exit() == 70
        assert "it speaks version 2, this worker version 1" in server.error_output()


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({}, "neither PROCPOOL_FD nor PROCPOOL_SOCKET is set"),
        ({"PROCPOOL_FD": "99"}, "PROCPOOL_FD=99 is not an inherited socket"),
        ({"PROCPOOL_FD": "x"}, "PROCPOOL_FD=x is not an inherited socket"),
        ({"PROCPOOL_FD": "2"}, "PROCPOOL_FD=2 is not an inherited socket"),
        ({"PROCPOOL_SOCKET": "/nowhere"}, "cannot connect to PROCPOOL_SOCKET=/nowhere"),
    ],
)
def test_a_worker_without_a_server_says_how_workers_are_started(environment, complaint):
    result = subprocess.run(
        [sys.executable, "-m", "procpool.worker", "module"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert complaint in result.stderr
    assert "procpool serve --processes 4 -- python -m procpool.worker module" in result.stderr


def test_help_says_how_to_use_it():
    result = subprocess.run(
        [sys.executable, "-m", "procpool.worker", "--help"], capture_output=True, text=True, check=True
    )
    assert "MODULE_OR_FILE" in result.stdout
