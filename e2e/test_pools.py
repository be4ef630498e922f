"""Several pools in one server, as examples/two-pools.toml has them."""

import json
import os
import signal
import subprocess
import threading

from conftest import PATIENCE, PROCPOOL, ROOT, Server, call, grpcurl, wait_until

CONFIG = ROOT / "examples/two-pools.toml"


def procpool(server, *arguments):
    """Runs a command of the client; returns its output."""
    line = [PROCPOOL, *arguments, "--server", server.address]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pool(server, name):
    return json.loads(procpool(server, "workers", "--pool", name, "--output", "json"))


def test_the_example_serves_both_pools():
    with Server("--config", str(CONFIG)) as server:
        server.wait_ready(3)
        [answer] = call(server, "Map", {"function": "is_prime", "values": [7, 8]})
        assert answer["values"] == [True, False]
        [answer] = call(server, "Map", {"function": "count_words", "values": ["a rose is a rose", ""]})
        assert answer["values"] == [5, 0]
        [answer] = call(server, "StarMap", {"function": "frequent_words", "values": [["b a b", 1]]})
        assert answer["values"] == ["      2 b"]
        [answer] = call(server, "ListFunctions", {})
        pools = {function["name"]: function["pool"] for function in answer["functions"]}
        assert pools["is_prime"] == "matches" and pools["count_words"] == "words"
        assert answer["limits"]["numSlots"] == 3
        for name, slots in [("matches", 2), ("words", 1)]:
            state = pool(server, name)
            assert (state["name"], state["num_slots"], len(state["workers"])) == (name, slots, slots)
        assert pool(server, "words")["limits"]["item_timeout_seconds"] == 5
        assert pool(server, "matches")["limits"]["max_items_per_worker"] == 10_000
        listed = procpool(server, "functions")
        assert "Runs the command: wc -w" in listed and "Tell whether a number is prime" in listed
        wait_until(lambda: server.lines("health is Serving"), "the server is healthy")
        for service in ["", "procpool.v1.PoolService/matches", "procpool.v1.PoolService/words"]:
            code, out, err = grpcurl(server, server.address, "grpc.health.v1.Health/Check", data={"service": service})
            assert code == 0 and "SERVING" in out and "NOT" not in out, (service, out, err)
        assert server.stop() == 0


def copy_of_the_example(folder):
    """Copies the example so that its Python module can be changed; returns the configuration and the module."""
    module = folder / "matches.py"
    # Faster, so that there are many items.
    source = (ROOT / "examples/matches.py").read_text()
    module.write_text(source.replace("ROUNDS = 4_000_000", "ROUNDS = 100_000"))
    config = folder / "two-pools.toml"
    text = CONFIG.read_text()
    assert '"examples/matches.py"' in text
    config.write_text(text.replace('"examples/matches.py"', json.dumps(str(module))))
    return config, module


def test_changed_code_of_the_example_is_taken_up_during_a_map_with_no_failed_item(tmp_path):
    config, module = copy_of_the_example(tmp_path)
    with Server("--config", str(config)) as server:
        before = server.wait_ready(3)
        answers = []
        request = {"function": "analyze_match", "values": list(range(1000)), "options": {"chunkSize": 2}}
        running = threading.Thread(target=lambda: answers.extend(call(server, "Map", request)))
        running.start()
        wait_until(lambda: pool(server, "matches")["counts"]["items_succeeded_total"], "the Map runs")
        source = module.read_text()
        assert "Analysis Clear" in source
        module.write_text(source.replace("Analysis Clear", "Analysis Complete"))
        assert procpool(server, "restart") == "3 workers replaced\n"
        running.join(timeout=PATIENCE)
        [answer] = answers
        assert len(answer["values"]) == 1000
        assert {text.split(": ")[1] for text in answer["values"]} == {"Analysis Clear", "Analysis Complete"}
        [answer] = call(server, "Map", {"function": "analyze_match", "values": [1, 2]})
        assert answer["values"] == [f"Result for Match #{match}: Analysis Complete" for match in [1, 2]]
        [answer] = call(server, "Map", {"function": "count_words", "values": ["a rose"]})
        assert answer["values"] == [2]
        assert not set(server.workers()) & set(before), "both pools have new workers"


def test_a_pool_whose_new_code_does_not_start_does_not_keep_the_others_from_a_hangup(tmp_path):
    config, module = copy_of_the_example(tmp_path)
    with Server("--config", str(config)) as server:
        server.wait_ready(3)
        module.write_text("raise RuntimeError('no such database')\n")
        seen = {worker["pid"] for worker in pool(server, "words")["workers"]}
        for _ in range(2):
            os.kill(server.pid, signal.SIGHUP)

            def is_new():
                state = pool(server, "words")
                pids = {worker["pid"] for worker in state["workers"] if worker["state"] == "ready"}
                return None if state["restarting"] or seen & pids else pids

            seen |= wait_until(is_new, "the pool of words has a new worker")
        assert pool(server, "matches")["restarting"]
        assert "no such database" in wait_until(lambda: pool(server, "matches")["last_start_failure"], "a failed start")
        assert call(server, "Map", {"function": "is_prime", "values": [7]})[0]["values"] == [True]
