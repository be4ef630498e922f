"""What went wrong in other pools must not go wrong here: their issues, as tests of ours.

Which tests elsewhere belong to this list: N items on N slots use N processes, and items queued behind a dead worker run
elsewhere (test_lifecycle.py); an exit with code 0 in the middle of an item, daemons, and descendants that hold pipes
(pool/tests/supervisor).
"""

import os
import signal
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PATIENCE, Server, call, children_of, grpcurl, python_worker, wait_until

FUNCTIONS = python_worker("e2e/functions.py")
COLLECT = {"onError": "ON_ERROR_COLLECT"}


def reasons(answer: dict) -> list[str]:
    """Returns why items of a Map failed."""
    errors = answer.get("errors", [])
    details = [detail for error in errors for detail in error["status"]["details"]]
    return [detail["reason"] for detail in details if detail["@type"].endswith("ErrorInfo")]


def test_a_late_answer_never_reaches_the_next_call(tmp_path):
    # gunicorn, nuclio: the worker went on with the item of the call that was given up, and its answer was the next one's.
    options = ["--processes", "1", "--cancel-grace-period", "30s"]
    with Server(*options, command=FUNCTIONS) as server, ThreadPoolExecutor() as threads:
        [worker] = server.wait_ready(1)
        late, next_one = tmp_path / "late", tmp_path / "next"
        request = {"function": "note_and_wait", "values": [str(late)], "options": {"itemTimeout": "0.2s", **COLLECT}}
        [answer] = call(server, "Map", request)
        assert reasons(answer) == ["ITEM_TIMEOUT"]
        # The next call waits for the same worker, whose item has still to end.
        answer = threads.submit(call, server, "Map", {"function": "note_and_wait", "values": [str(next_one)]})
        late.with_suffix(".release").touch()
        wait_until(next_one.exists, "the next item runs")
        next_one.with_suffix(".release").touch()
        assert answer.result(timeout=PATIENCE) == [{"values": ["next"]}]
        assert server.workers() == [worker], "it ended by itself, and was kept"


def test_a_slow_item_delays_nobody_while_a_slot_is_idle(tmp_path):
    # gunicorn: items were dealt out in turn, and waited behind a slow one.
    slow = tmp_path / "item-0"
    quick = [tmp_path / f"item-{item}" for item in range(1, 41)]
    for marker in quick:
        marker.with_suffix(".release").touch()
    with Server("--processes", "2", command=FUNCTIONS) as server, ThreadPoolExecutor() as threads:
        server.wait_ready(2)
        request = {"function": "note_and_wait", "values": [str(marker) for marker in [slow, *quick]]}
        answer = threads.submit(call, server, "Map", request)
        wait_until(lambda: slow.exists() and all(marker.exists() for marker in quick), "all others have run")
        assert not answer.done()
        slow.with_suffix(".release").touch()
        assert answer.result(timeout=PATIENCE) == [{"values": [f"item-{item}" for item in range(41)]}]


def test_when_all_slots_hang_the_pool_is_usable_again_after_the_timeout():
    # gunicorn: dead for 25 s.
    options = ["--processes", "2", "--cancel-grace-period", "200ms", "--kill-grace-period", "200ms"]
    with Server(*options, command=FUNCTIONS) as server, ThreadPoolExecutor() as threads:
        before = server.wait_ready(2)
        request = {"function": "hang_for_good", "values": [1, 2], "options": {"itemTimeout": "1s", **COLLECT}}
        hanging = threads.submit(call, server, "Map", request)
        wait_until(lambda: len(server.lines("hangs for good")) == 2, "both slots hang")
        [answer] = call(server, "Map", {"function": "pid", "values": [1, 2]})
        assert set(answer["values"]).isdisjoint(before)
        assert reasons(*hanging.result(timeout=PATIENCE)) == ["ITEM_TIMEOUT"] * 2


def test_an_initialiser_that_raises_is_not_tried_again_at_once(tmp_path):
    # gunicorn: 1352 starts in 6 s.
    module = tmp_path / "no_start.py"
    module.write_text("def prepare():\n    raise RuntimeError('no model')\n\ndef f(item):\n    return item\n")
    with Server("--processes", "1", command=[*python_worker(str(module)), "--init", "prepare"]) as server:
        wait_until(lambda: server.lines("worker exited unexpectedly"), "the first has failed")
        time.sleep(6.0)  # The promise is about these seconds.
        # At 0, 0.1, 0.3, 0.7, 1.5, 3.1 and 6.3 s, give or take.
        assert len(server.lines("worker exited unexpectedly")) < 10
        wait_until(lambda: len(server.lines("worker exited unexpectedly")) >= 5, "it is tried again, though")
        code, _, err = grpcurl(server, server.address, "procpool.v1.PoolService/Map", data={"function": "f", "values": [1]})
        assert code != 0 and "POOL_DEGRADED" in err and "no model" in err, err


def test_a_timeout_fires_when_it_should():
    # nuclio: at up to twice the time.
    options = ["--processes", "1", "--cancel-grace-period", "0s", "--kill-grace-period", "0s"]
    with Server(*options, command=FUNCTIONS) as server:
        server.wait_ready(1)
        for trial in range(5):
            server.wait_ready(trial + 1)
            request = {"function": "hang_for_good", "values": [1], "options": {"itemTimeout": "1s"}}
            code, _, err = grpcurl(server, server.address, "procpool.v1.PoolService/Map", data=request)
            assert code != 0 and "ITEM_TIMEOUT" in err, err
        # From the arrival of the call to its end, by the server's own clock.
        elapsed = [seconds(fields["elapsed"]) for fields in server.lines("call failed")]
        assert len(elapsed) == 5
        assert min(elapsed) >= 1.0
        print(f"a timeout of 1 s fired after {statistics.median(elapsed)} s (median of 5)")


def seconds(text: str) -> float:
    """Parses a duration as Rust prints it."""
    for unit, factor in [("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9), ("s", 1.0)]:
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_one_kill_during_a_map_of_200_items_fails_at_most_the_one_that_ran(tmp_path, max_attempts):
    # ProcessPoolExecutor: 164 of 200 failed; multiprocessing.Pool: hangs for ever.
    counter = tmp_path / "counter"
    with Server("--processes", "4", command=FUNCTIONS) as server, ThreadPoolExecutor() as threads:
        victim = server.wait_ready(4)[0]
        options = {"maxAttempts": max_attempts, **COLLECT}
        request = {"function": "count", "values": [str(counter)] * 200, "options": options}
        answer = threads.submit(call, server, "Map", request)
        wait_until(lambda: counter.exists() and len(counter.read_text().splitlines()) > 20, "it is at work")
        os.kill(victim, signal.SIGKILL)
        [answer] = answer.result(timeout=PATIENCE)
        assert len(answer["values"]) == 200
        failed = reasons(answer)
        assert failed in ([], ["WORKER_CRASHED"]) if max_attempts == 1 else failed == []
        assert 199 <= len(counter.read_text().splitlines()) <= 201
        server.wait_ready(5)
        assert len(server.workers()) == 4


def may_unshare() -> bool:
    return subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="needs a PID namespace of its own")
def test_as_pid_1_it_is_not_stopped_by_the_exit_of_a_stranger(tmp_path):
    # gunicorn: a reparented process that exited with 3 stopped the server.
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with Server("--processes", "1", prefix=namespace) as server:
        wait_until(lambda: server.lines("worker is ready"), "a worker is ready")
        [init] = children_of(server.pid)
        done = tmp_path / "done"
        # The shell in the middle exits at once: what it has started becomes a child of process 1.
        stranger = f"(sleep 0.2; touch {done}; exit 3) & exit 3"
        subprocess.run(["nsenter", "--target", str(init), "--pid", "sh", "-c", f"setsid sh -c '{stranger}' &"], check=True)
        wait_until(done.exists, "the stranger is about to exit")
        wait_until(lambda: len(children_of(init)) == 1, "it is reaped, and the worker is left")
        [answer] = call(server, "Map", {"function": "echo", "values": [1]})
        assert answer == {"values": [1]}
        os.kill(init, signal.SIGTERM)
        server.process.wait(timeout=PATIENCE)
        assert server.process.returncode == 0
