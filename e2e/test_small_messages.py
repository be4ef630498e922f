"""Stock clients that stream items one by one, faster than they are worked on: they wait, and keep their connections."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, ROOT, TARGET, Server
from test_clients import build_go, node_folder  # noqa: F401  (a fixture)

FOLDER = ROOT / "e2e/small_messages"
# Three times what once ended a connection, and more than a stream's window holds.
ITEMS = 25_000


def command(client: str, node: Path) -> list[str]:
    """Returns what runs a client."""
    if client == "go":
        program = TARGET / "small-messages-go"
        if not build_go(FOLDER, program):
            pytest.skip("there is no Go here")
        return [str(program)]
    if client == "node":
        # Beside its packages.
        shutil.copy(FOLDER / "client.mjs", node / "small_messages.mjs")
        return ["node", str(node / "small_messages.mjs")]
    return [sys.executable, str(FOLDER / "client.py")]


@pytest.mark.parametrize("mode", ["drained", "undrained"])
@pytest.mark.parametrize("client", ["python", "node", "go"])
def test_items_sent_one_by_one_all_come_back(client, mode, node_folder):  # noqa: F811
    line = command(client, node_folder)
    with Server("--processes", "2") as server:
        server.wait_ready(2)
        done = subprocess.run(
            [*line, server.address, str(ITEMS), mode], capture_output=True, text=True, timeout=10 * PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == f"{ITEMS} results", done.stdout + done.stderr
