"""What operators do, with the command line and with grpcurl."""

import json
import os
import signal
import subprocess
import sys
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
        assert (pool["name"], pool["state"], pool["num_slots"], pool["num_jobs"]) == ("default", "ready", 2, 0)
        assert sorted(worker["pid"] for worker in pool["workers"]) == sorted(pids)
        assert sum(worker["num_finished_items"] for worker in pool["workers"]) == 100
        assert all(worker["rss_bytes"] > 100_000 and worker["state"] == "ready" for worker in pool["workers"])
        assert pool["limits"]["max_queued_bytes"] == 256 << 20 and pool["limits"]["item_timeout_seconds"] is None
        assert pool["slots"] == {"starting": 0, "ready": 2, "busy": 0, "stopping": 0, "empty": 0}
        counts = {name: pool["counts"][name] for name in ["jobs_total", "items_succeeded_total", "worker_exits_total"]}
        assert counts == {"jobs_total": 1, "items_succeeded_total": 100, "worker_exits_total": {}}
        assert (pool["num_held_items"], pool["held_bytes"]) == (0, 0)
        table = procpool(server, "workers")
        assert table.splitlines()[0].split() == ["WORKER", "SLOT", "PID", "STATE", "AGE", "ITEMS", "RSS", "CPU", "RUNS"]
        assert "pool default is ready: 2 slots" in table
        assert "so far: 1 jobs (0 failed or cancelled); 100 items succeeded, 0 failed, 0 dropped\n" in table
        assert "held: 0 of 10000000 items, 0.0 of 256 MiB\n" in table
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
            request = {"function": "version", "values": list(range(2000)), "options": {"chunkSize": 5}}
            running = threading.Thread(target=lambda: answers.extend(call(server, "Map", request)))
            running.start()
            wait_until(lambda: snapshot(server)["num_running_items"], "the Map runs")
            # Python takes a file of the same length and the same second for the one that it has compiled.
            module.write_text(source.format(old + 1) + "#" * old)
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


def test_a_job_is_found_and_cancelled_and_its_client_is_told():
    with Server("--processes", "1") as server:
        [pid] = server.wait_ready(1)
        line = [PROCPOOL, "map", "sleep_ms", "--server", server.address, "60000", "0", "0"]
        client = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        [job] = wait_until(lambda: [job for job in snapshot(server)["jobs"] if job["num_running_items"]], "the call runs")
        assert (job["function"], job["method"], job["num_items"]) == ("sleep_ms", "IMap", 3)
        [pool] = [json.loads(line) for line in procpool(server, "jobs", "--output", "json").splitlines()]
        assert (pool["pool"], pool["num_jobs"], [listed["job"] for listed in pool["jobs"]]) == ("default", 1, [job["job"]])
        titles, row, _, below = procpool(server, "jobs").splitlines()
        assert titles.split()[:4] == ["JOB", "STATE", "FUNCTION", "CALL"]
        assert row.split()[:5] == [str(job["job"]), "running", "sleep_ms", "IMap", "3"], row
        assert below == "pool default: 1 jobs"

        number = str(job["job"])
        assert procpool(server, "cancel", number) == f"job {number} is cancelled\n"
        out, err = client.communicate(timeout=PATIENCE)
        assert (client.returncode, out) == (4, "")
        assert err == f"procpool: the call was cancelled: an operator cancelled the call (job {number})\n"
        [line] = wait_until(lambda: server.lines("call failed"), "the call has a line")
        assert (line["job"], line["reason"], line["outcome"]) == (job["job"], "CANCELLED_BY_OPERATOR", "Cancelled")
        wait_until(lambda: not snapshot(server)["num_running_items"], "what ran is ended")
        assert call(server, "Map", {"function": "echo", "values": [1]})[0]["values"] == [1], "the slot is free"
        assert server.workers() == [pid], "the item could end by itself"

        line = [PROCPOOL, "cancel", number, "--server", server.address]
        done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 4 and done.stdout == ""
        assert f"there is no job {number}: it has ended, or never began; `procpool jobs` lists those" in done.stderr


def test_answers_are_json_if_asked_for():
    with Server("--processes", "1") as server:
        server.wait_ready(1)

        def answer(*arguments):
            return [json.loads(line) for line in procpool(server, *arguments, "--output", "json").splitlines()]

        assert answer("resize", "2") == [{"previous_num_slots": 1, "num_slots": 2}]
        server.wait_ready(2)
        assert answer("restart") == [{"num_restarted": 2}]
        assert answer("functions") == [
            json.loads(line) for line in procpool(server, "functions", "--json").splitlines()
        ]
        assert {function["pool"] for function in answer("functions")} == {"default"}
        assert answer("drain") == [{"draining": True}]
        assert server.process.wait(timeout=PATIENCE) == 0


def test_a_restart_with_code_that_does_not_start_says_so_and_takes_nothing_away(tmp_path):
    module = tmp_path / "renamed.py"
    module.write_text("def a(item):\n    return item\n")
    with Server("--processes", "2", command=python_worker(str(module))) as server:
        before = server.wait_ready(2)
        module.write_text("def renamed(item):\n    return item\n\nraise RuntimeError('no such database')\n")
        line = [PROCPOOL, "restart", "--timeout", "5s", "--server", server.address]
        done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 4, done
        *progress, last = done.stderr.splitlines()
        assert "1 of 2 old workers are left in pool" in last and "RuntimeError: no such database" in last, done.stderr
        assert progress and all("did not become ready" in line for line in progress), done.stderr
        assert all("RuntimeError: no such database" in line for line in progress), done.stderr
        assert snapshot(server)["restarting"]
        assert call(server, "Map", {"function": "a", "values": [1, 2]})[0]["values"] == [1, 2]
        assert len(set(server.workers()) & set(before)) == 1
        module.write_text("def renamed(item):\n    return item\n")
        assert procpool(server, "restart").endswith(" workers replaced\n")
        code, _, err = grpcurl(server, server.address, "procpool.v1.PoolService/Map", data={"function": "a", "values": [1]})
        assert code != 0 and "NotFound" in err and "FUNCTION_NOT_FOUND" in err
        assert call(server, "Map", {"function": "renamed", "values": [1]})[0]["values"] == [1]


VERSIONED = """\
import pathlib
import time


def stays(item):
    time.sleep(0.002)
    return item


def block(begun, go_on):
    pathlib.Path(begun).touch()
    while not pathlib.Path(go_on).exists():
        time.sleep(0.01)
    return "done"
"""
OLD = "\n\ndef goes(item):\n    return item\n\n\ndef old_name(item):\n    return item\n"
NEW = "\n\ndef added(item):\n    return [item]\n\n\ndef new_name(item):\n    return item\n"


def test_new_code_adds_removes_and_renames_functions_during_calls(tmp_path):
    module, begun, go_on = tmp_path / "versioned.py", tmp_path / "begun", tmp_path / "go_on"
    module.write_text(VERSIONED + OLD)

    def in_background(target):
        results = []
        thread = threading.Thread(target=lambda: results.append(target()))
        thread.start()

        def join():
            thread.join(timeout=PATIENCE)
            return results[0]

        return join

    def functions(server):
        [answer] = call(server, "ListFunctions", {})
        return {function["name"] for function in answer["functions"]}

    def refusal(server, function):
        code, _, err = grpcurl(server, server.address, "procpool.v1.PoolService/Map", data={"function": function, "values": [1]})
        assert code != 0 and "Code: NotFound" in err and "FUNCTION_NOT_FOUND" in err, err
        return err

    with Server("--processes", "2", command=python_worker(str(module))) as server:
        server.wait_ready(2)
        blocked = {"function": "block", "values": [[str(begun), str(go_on)]]}
        block = in_background(lambda: call(server, "StarMap", blocked))
        wait_until(begun.exists, "one worker is busy")
        items = {"function": "stays", "values": list(range(1500))}
        running = [in_background(lambda method=method: call(server, method, items)) for method in ["IMap", "Map"]]
        wait_until(lambda: snapshot(server)["counts"]["items_succeeded_total"] > 100, "both run")

        module.write_text(VERSIONED + NEW + "#" * 10)
        restart = in_background(lambda: procpool(server, "restart"))
        wait_until(lambda: "added" in functions(server), "one worker has the new code")
        assert functions(server) == {"stays", "block", "goes", "old_name", "added", "new_name"}
        for _ in range(10):
            [answer] = call(server, "Map", {"function": "added", "values": [1, 2]})
            assert answer["values"] == [[1], [2]]
        assert call(server, "Map", {"function": "new_name", "values": [1]})[0]["values"] == [1]
        # Its only worker is busy, and the next will not have it.
        jobs = snapshot(server)["counts"]["jobs_total"]
        queued = in_background(lambda: refusal(server, "goes"))
        wait_until(lambda: snapshot(server)["counts"]["jobs_total"] > jobs, "it waits")
        assert snapshot(server)["restarting"]

        go_on.touch()
        assert block()[0]["values"] == ["done"]
        assert restart() == "2 workers replaced\n"
        queued()
        assert functions(server) == {"stays", "block", "added", "new_name"}
        refusal(server, "goes")
        refusal(server, "old_name")
        for join in running:
            answers = join()
            assert not any("errors" in answer for answer in answers)
            assert [value for answer in answers for value in answer["values"]] == items["values"]
        counts = snapshot(server)["counts"]
        assert counts["items_failed_total"] == 0 and counts["items_dropped_total"] == 1, "the one that waited"


def test_watching_tells_what_happens():
    with Server("--processes", "1") as server:
        server.wait_ready(1)
        wait_until(lambda: snapshot(server)["slots"]["ready"] == 1, "it is known to be ready")
        line = [f"{sys.prefix}/bin/grpcurl", "-plaintext", "-max-time", str(PATIENCE), server.address]
        watch = subprocess.Popen([*line, "procpool.v1.PoolAdminService/WatchPool"], stdout=subprocess.PIPE, text=True)
        # The first line of the snapshot: from here on nothing is missed.
        first = watch.stdout.readline()
        procpool(server, "resize", "2")
        server.wait_ready(2)
        procpool(server, "resize", "1")
        call(server, "Map", {"function": "echo", "values": [1]})
        assert procpool(server, "restart").endswith(" workers replaced\n")
        procpool(server, "drain")
        first, *events = parse_messages(first + watch.stdout.read())
        watch.wait(timeout=PATIENCE)
        assert first["snapshot"]["numSlots"] == 1 and not first["snapshot"].get("restarting")
        kinds = [next(iter(event)) for event in events]
        assert {"jobStarted", "jobEnded", "poolStateChanged"} <= set(kinds)
        resized = [event["poolResized"] for event in events if "poolResized" in event]
        assert resized == [{"previousNumSlots": 1, "numSlots": 2}, {"previousNumSlots": 2, "numSlots": 1}]
        began, ended = kinds.index("restartStarted"), kinds.index("restartEnded")
        assert events[ended]["restartEnded"] == {"complete": True}
        changes = [event["workerChanged"] for event in events[began:ended] if "workerChanged" in event]
        # Slot 0, which proto3 leaves out; slot 1 may still be on its way out.
        states = [change["state"].removeprefix("WORKER_STATE_") for change in changes if "slot" not in change]
        assert states == ["STOPPING", "EXITED", "STARTING", "READY"]
        assert [change["reason"] for change in changes if "slot" not in change and "reason" in change][0] == "Restart"
        assert server.process.wait(timeout=PATIENCE) == 0, "a drained server ends"


def test_wrong_wishes_are_refused():
    with Server("--processes", "1") as server:
        server.wait_ready(1)
        code, _, err = grpcurl(
            server, server.address, "procpool.v1.PoolAdminService/ResizePool", data={"numSlots": 1_000_000}
        )
        assert code != 0
        assert "num_slots: 1000000 is not between 1 and 4096" in err
