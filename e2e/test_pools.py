"""Several pools in one server, as examples/two-pools.toml has them."""

import subprocess

from conftest import PATIENCE, PROCPOOL, ROOT, Server, call, grpcurl, wait_until


def test_the_example_serves_both_pools():
    with Server("--config", str(ROOT / "examples/two-pools.toml")) as server:
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
        listed = subprocess.run(
            [PROCPOOL, "functions", "--server", server.address], capture_output=True, text=True, timeout=PATIENCE
        )
        assert "Runs the command: wc -w" in listed.stdout and "Tell whether a number is prime" in listed.stdout
        wait_until(lambda: server.lines("health is Serving"), "the server is healthy")
        for service in ["", "procpool.v1.PoolService/matches", "procpool.v1.PoolService/words"]:
            code, out, err = grpcurl(server, server.address, "grpc.health.v1.Health/Check", data={"service": service})
            assert code == 0 and "SERVING" in out and "NOT" not in out, (service, out, err)
        assert server.stop() == 0
