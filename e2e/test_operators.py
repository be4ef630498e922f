"""Whom the operators' service answers: by the address and, on a Unix socket, by the user."""

import json
import os
import subprocess

import pytest
from conftest import PATIENCE, PROCPOOL, Server

# A network namespace of its own, whose loopback interface has another address, too: a caller from there is no local one.
OTHER_ADDRESS = "10.87.6.5"
IN_A_NETWORK = [
    "unshare", "--net", "sh", "-c",
    f'ip link set lo up && ip addr add {OTHER_ADDRESS}/32 dev lo && exec "$@"', "sh",
]  # fmt: skip


def may(command: list[str]) -> bool:
    try:
        return subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def procpool(*arguments: str, prefix: list[str] | None = None):
    done = subprocess.run([*(prefix or []), PROCPOOL, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not may(IN_A_NETWORK), reason="needs root and a network namespace")
def test_a_caller_from_elsewhere_may_call_but_not_operate():
    with Server("--processes", "1", "--listen", f"{OTHER_ADDRESS}:0", prefix=IN_A_NETWORK) as server:
        enter = ["nsenter", "--net", "--target", str(server.pid)]
        elsewhere = server.process.stdout.readline().removeprefix("listening on ").strip()
        assert elsewhere.startswith(OTHER_ADDRESS)
        at = ["--server", f"http://{elsewhere}"]
        assert procpool("map", *at, "echo", "1", prefix=enter) == (0, "1\n", "")
        for command in (["workers"], ["jobs"], ["cancel", "1"], ["resize", "2"], ["restart"], ["drain"]):
            code, out, err = procpool(*command, *at, prefix=enter)
            assert code != 0 and out == "" and "only operators may call this" in err and "operators" in err, err
        assert procpool("map", *at, "echo", "1", prefix=enter)[0] == 0, "nothing was drained"
        assert server.lines("can call every function"), "it says what anybody can do"
        assert procpool("drain", "--server", f"http://{server.address}", prefix=enter)[0] == 0, "from loopback it may"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_on_a_unix_socket_another_user_may_call_but_not_operate(tmp_path):
    path = f"/tmp/procpool-operators-{os.getpid()}.sock"
    try:
        with Server("--processes", "1", "--listen", f"unix:{path}"):
            os.chmod(path, 0o777)
            at = ["--server", f"unix:{path}"]
            nobody = ["setpriv", "--reuid", "12345", "--clear-groups"]
            assert procpool("map", *at, "echo", "1", prefix=nobody) == (0, "1\n", "")
            code, _, err = procpool("drain", *at, prefix=nobody)
            assert code != 0 and "unix:uid=12345" in err, err
            code, out, _ = procpool("workers", "--output", "json", *at)
            assert code == 0 and len(json.loads(out)["workers"]) == 1
    finally:
        if os.path.exists(path):
            os.remove(path)
