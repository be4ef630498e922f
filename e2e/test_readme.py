"""The README's own commands, run as they stand there, against servers that are started as it says."""

import os
import re
import shlex
import subprocess
import sys
import zlib

import pytest
from conftest import PATIENCE, PROCPOOL, ROOT, Server, call, wait_until

README = (ROOT / "README.md").read_text()
# Where the README's servers listen, which may be taken here.
DEFAULT_ADDRESS = "127.0.0.1:50051"
# What commands print, by how they begin. The others are only to succeed.
PRINTED = {
    f"grpcurl -plaintext {DEFAULT_ADDRESS} list": "procpool.v1.PoolService",
    'grpcurl -plaintext -d \'{"function":"analyze_match"': "Result for Match #3: Analysis Clear",
    'grpcurl -plaintext -d \'{"function":"power"': "1024",
    "procpool map analyze_match 1..10": "Result for Match #10: Analysis Clear",
    "procpool starmap power '[2,10]'": "1024\n27\n",
    "procpool map lookup": "1\n2\n",
    "procpool apply power 2 10": "1024\n",
    "procpool functions": "is_prime",
    "procpool workers dump 3": "thread 0x",
    "procpool workers  ": "ready",
    "procpool jobs": "pool default: 0 jobs\n",
    "printf 'base,exponent": "1024\n27\n",
    'grpcurl -plaintext -d \'{"function":"compress"': '"blobs"',
    "procpool imap is_prime --from-json ids.json --only": "2 items: 2 ok, 0 failed",
}
FAILURES = {'grpcurl -plaintext -d \'{"function":"square_root"': "ValueError: -1 has no real square root"}


def blocks(heading: str, language: str) -> list[str]:
    """Returns the fenced blocks of a section."""
    [section] = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", re.sub(FENCE, hide_hashes, README), re.DOTALL | re.M)
    return [unhide(block) for block in re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.M)]


# A comment in a command is no heading.
FENCE = re.compile(r"^```\w+\n.*?^```$", re.DOTALL | re.M)


def hide_hashes(fence: re.Match) -> str:
    return fence.group().replace("#", "\0")


def unhide(block: str) -> str:
    return block.replace("\0", "#")


def commands(heading: str) -> list[str]:
    """Returns the commands of a section, one a line."""
    lines = [line for block in blocks(heading, "sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def start(command: str) -> Server:
    """Starts a server by a line of the README."""
    words = shlex.split(command, comments=True)
    assert words[:2] == ["procpool", "serve"]
    dashes = words.index("--")
    return Server(*words[2:dashes], command=words[dashes + 1 :])


def run(command: str, server: Server, folder) -> None:
    """Runs a command, and checks what it prints."""
    path = os.pathsep.join([f"{sys.prefix}/bin", str(PROCPOOL.parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PROCPOOL_SERVER": server.address}
    line = command.replace(DEFAULT_ADDRESS, server.address)
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    printed = done.stdout + done.stderr
    failures = [text for begin, text in FAILURES.items() if command.startswith(begin)]
    assert (done.returncode != 0) == bool(failures), f"{command}\n{printed}"
    expected = failures or [text for begin, text in PRINTED.items() if command.startswith(begin)]
    assert all(text in printed for text in expected), f"{command}\n{printed}"


def server_command(heading: str) -> str:
    [command] = [line for line in commands(heading) if line.startswith("procpool serve")]
    return command


def test_the_tour_with_grpcurl_and_the_command_line(tmp_path):
    with start(server_command("A server for everybody")) as server:
        server.wait_ready(4)
        sections = ["With grpcurl", "With the command line", "Lists from files and pipes", "For whoever runs the server"]
        for command in [command for section in sections for command in commands(section)]:
            run(command, server, tmp_path)
        # The last one was to drain it.
        assert server.process.wait(timeout=PATIENCE) == 0


def test_the_tour_with_python(tmp_path):
    """As it stands there: the stubs live beside the worker package, which is installed here."""
    [program] = blocks("With Python", "python")
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    with start(server_command("A server for everybody")) as server:
        server.wait_ready(4)
        for command in commands("With Python"):
            # What it installs is set up for the tests, and part of them.
            if not command.startswith("pip install"):
                run(command, server, tmp_path)
        program = f"import procpool.worker\n{program.replace(DEFAULT_ADDRESS, server.address)}"
        line = [sys.executable, "-c", program]
        environment = {**os.environ, "PYTHONPATH": "stubs"}
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "Result for Match #3: Analysis Clear" in done.stdout
    assert str(zlib.compress(b"hello")) in done.stdout


def test_a_worker_of_commands(tmp_path):
    with start(server_command("With any other program")) as server:
        wait_until(lambda: server.lines("worker is ready"), "a worker is ready")
        assert call(server, "Map", {"function": "count", "values": ["hello"]}) == [{"values": [6]}]


# Doctests and examples, which are compiled, and what of the README they have.
COMPILED = ["client/src/lib.rs", "client/src/client.rs", "client/examples/tour.rs", "worker/src/lib.rs"]


@pytest.mark.parametrize("line", [line for block in blocks("With Rust", "rust") for line in block.splitlines() if line])
def test_every_line_of_rust_is_compiled_somewhere(line):
    compiled = "\n".join((ROOT / file).read_text() for file in COMPILED)
    assert line.strip() in compiled


def test_the_example_is_the_file_that_it_names():
    [block] = blocks("A server for everybody", "python")
    name, *lines = block.splitlines()
    source = (ROOT / name.removeprefix("# ")).read_text()
    assert "\n".join(lines) in source
