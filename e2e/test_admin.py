"""What operators do, with the command line and with grpcurl."""

import json
import os
import signal
import subprocess
import threading

from conftest import PATIENCE, PROCPOOL, Server, call, grpcurl, parse_messages, python_worker, wait_until


def procpool(server, *arguments):
    """Runs a command of the client; returns its output."""
    line = [PROCPOOL, *arguments, "--server", f"http://{server.address}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def snapshot(server):
    return json.loads(procpool(server, "workers", "--output", "json"))


def test_workers_are_shown_with_what_they_use():
    with Server("--processes", "2") as server:
        pids = server.wait_ready(2)
        call(server, "Map", {"function": "echo", "values": list(range(100))})
        pool = snapshot(server)
        assert (pool["state"], pool["num_slots"], pool["num_jobs"]) == ("ready", 2, 0)
        assert sorted(worker["pid"] for worker in pool["workers"]) == sorted(pids)
        assert sum(worker["num_finished_items"] for worker in pool["workers"]) == 100
        assert all(worker["rss_bytes"] > 100_000 and worker["state"] == "ready" for worker in pool["workers"])
        table = procpool(server, "workers")
        assert table.splitlines()[0].split() == ["WORKER", "SLOT", "PID", "STATE", "AGE", "ITEMS", "RSS", "CPU", "RUNS"]
        assert "pool is ready: 2 slots" in table
        code, out, err = grpcurl(server, server.address, "procpool.v1.PoolAdminService/GetPool")
        assert code == 0, err
        assert parse_messages(out)[0]["pool"]["numSlots"] == 2


def test_a_pool_is_resized_while_it_works():
    with Server("--processes", "1", command=python_worker("e2e/functions.py")) as server:
        server.wait_ready(1)
        assert procpool(server, "resize", "3") == "1 → 3 slots\n"
        server.wait_ready(3)
        [answer] = call(server, "Map", {"function": "pid", "values": [1, 2, 3]})
        assert len(set(answer["values"])) == 3
        procpool(server, "resize", "1")
        wait_until(lambda: len(server.workers()) == 1, "the others have gone")
        [answer] = call(server, "Map", {"function": "pid", "values": [1, 2]})
        assert set(answer["values"]) == set(server.workers())


def test_a_restart_during_a_map_changes_the_answers_with_no_failed_item(tmp_path):
    module = tmp_path / "versions.py"
    source = "import time\n\ndef version(item):\n    time.sleep(0.005)\n    return {}\n"
    module.write_text(source.format(1))
    for trigger in ["command", "signal"]:
        with Server("--processes", "2", command=python_worker(str(module))) as server:
            before = server.wait_ready(2)
            old = call(server, "Map", {"function": "version", "values": [0]})[0]["values"][0]
            answers = []
            request = {"function": "version", "values": list(range(600)), "options": {"chunkSize": 5}}
            running = threading.Thread(target=lambda: answers.extend(call(server, "Map", request)))
            running.start()
            wait_until(lambda: snapshot(server)["num_running_items"], "the Map runs")
            module.write_text(source.format(old + 1))
            if trigger == "command":
                assert procpool(server, "restart") == "2 workers replaced\n"
            else:
                os.kill(server.pid, signal.SIGHUP)
                wait_until(lambda: server.lines("workers have been replaced"), "the restart")
            running.join(timeout=PATIENCE)
            [answer] = answers
            assert set(answer["values"]) == {old, old + 1}, "both generations had their share, and nothing failed"
            assert not set(server.workers()) & set(before)
            assert call(server, "Map", {"function": "version", "values": [0, 1]})[0]["values"] == [old + 1] * 2


def test_watching_tells_what_happens():
    with Server("--processes", "1") as server:
        server.wait_ready(1)
        watched = {}
        watch = threading.Thread(
            target=lambda: watched.update(
                zip(
                    ["code", "out", "err"],
                    grpcurl(server, server.address, "procpool.v1.PoolAdminService/WatchPool"),
                    strict=True,
                )
            )
        )
        watch.start()
        # A watcher is there when a job's start is told; the first jobs may be too early for it.
        for _ in range(20):
            call(server, "Map", {"function": "echo", "values": [1]})
        procpool(server, "drain")
        watch.join(timeout=PATIENCE)
        events = [next(iter(message)) for message in parse_messages(watched["out"])]
        assert events[0] == "snapshot"
        assert {"jobStarted", "jobEnded", "poolStateChanged"} <= set(events)
        assert server.process.wait(timeout=PATIENCE) == 0, "a drained server ends"


def test_wrong_wishes_are_refused():
    with Server("--processes", "1") as server:
        server.wait_ready(1)
        code, _, err = grpcurl(
            server, server.address, "procpool.v1.PoolAdminService/ResizePool", data={"numSlots": 1_000_000}
        )
        assert code != 0
        assert "num_slots: 1000000 is not between 1 and 4096" in err
