"""The examples of examples/clients, as docs/clients.md shows them: what they print is what the docs say they print."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from conftest import GENERATED, PATIENCE, ROOT, TARGET, Server, call, python_worker, wait_until
from google.protobuf.internal.encoder import _VarintBytes
from procpool.v1 import pool_pb2

EXAMPLES = ROOT / "examples/clients"
DOCS = (ROOT / "docs/clients.md").read_text()
NODE = TARGET / "node-clients"
GO = TARGET / "go-client"
# Go with what Debian has for gRPC, unpacked beside the virtual environment that runs this, where there is apt-get.
GO_TOOLS = Path(sys.prefix).parent / "tools/go/usr"
# Set up beside the virtual environment that runs this.
BUF_FOLDER = Path(sys.prefix).parent / "tools/node_modules/.bin"
MATCHES = python_worker("examples/matches.py")
PROGRAMS = ["python/sync_client.py", "python/asyncio_client.py", "node/client.mjs"]
CLIENTS = ["grpcurl.sh", "buf-curl.sh", "go/main.go", *PROGRAMS]


@pytest.fixture(scope="session")
def node_folder():
    """The Node client with the packages that its lock file names, installed below target/."""
    NODE.mkdir(parents=True, exist_ok=True)
    for name in ["package.json", "package-lock.json", "client.mjs"]:
        shutil.copy(EXAMPLES / "node" / name, NODE)
    lock, stamp = (NODE / "package-lock.json").read_text(), NODE / "installed.stamp"
    if not stamp.exists() or stamp.read_text() != lock:
        stamp.unlink(missing_ok=True)
        install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(install, cwd=NODE, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        stamp.write_text(lock)
    return NODE


def build_go(package: Path, program: Path, generate: list[str] | None = None) -> bool:
    """Builds a Go program with what `cargo xtask test` has unpacked; first runs `generate`. False: there is no Go here."""
    compiler = next(GO_TOOLS.glob("lib/go-*/bin/go"), None)
    if compiler is None:
        return False
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(GO_TOOLS / "bin"), os.environ["PATH"]]),
        "GO111MODULE": "off",
        "GOROOT": str(compiler.parent.parent),
        "GOPATH": os.pathsep.join([str(GO), str(GO_TOOLS / "share/gocode")]),
        "GOCACHE": str(TARGET / "go-cache"),
        "CGO_ENABLED": "0",
    }
    for line in [generate, [compiler, "build", "-o", program, "."]]:
        if line:
            done = subprocess.run(line, cwd=package, env=environment, capture_output=True, text=True, timeout=110)
            assert done.returncode == 0, done.stdout + done.stderr
    return True


@pytest.fixture(scope="session")
def go_program():
    """Builds the Go client, with stubs that are generated as the docs say; `None` where there is no Go."""
    package = GO / "src/client"
    package.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / "go/main.go", package)
    mapped = "Mprocpool/v1/pool.proto=procpool/v1;procpoolv1"
    outputs = [f"--go_out={GO / 'src'}", f"--go_opt={mapped}", f"--go-grpc_out={GO / 'src'}", f"--go-grpc_opt={mapped}"]
    generator = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *outputs, "procpool/v1/pool.proto"]
    return GO / "client" if build_go(package, GO / "client", generator) else None


def start(client: str, address: str, node_folder: Path, go_program: Path | None = None) -> subprocess.Popen:
    """Starts an example as the docs say."""
    lines = {
        ".sh": [EXAMPLES / client, address],
        ".py": [sys.executable, EXAMPLES / client, address],
        ".go": [go_program, address],
        ".mjs": ["node", node_folder / "client.mjs", address, ROOT / "proto"],
    }
    path = os.pathsep.join([f"{sys.prefix}/bin", str(BUF_FOLDER), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(GENERATED)}
    line = lines[Path(client).suffix]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(process: subprocess.Popen) -> list[str]:
    """Returns what an example printed, once it has ended; paths are as seen from the root of the repository."""
    try:
        printed, _ = process.communicate(timeout=2 * PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, printed
    return printed.replace(f"{ROOT}/", "").splitlines()


def blocks(kind: str) -> list[tuple[list[str], list[str]]]:
    """Returns the files that the docs name above a block, and the block."""
    found = re.findall(rf"^<!-- {kind}: ([^\n]+) -->\n```\w+\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    return [(names.split(), block.splitlines()) for names, block in found]


def transcript_of(client: str) -> list[str]:
    """Returns what the docs say that an example prints."""
    [transcript] = [block for names, block in blocks("transcript") if client in names]
    return transcript


@pytest.mark.parametrize("form", ["{tcp}", "unix:{path}", "{path}"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_prints_what_the_docs_say_and_leaves_the_slots_free(client, form, node_folder, go_program, tmp_path):
    if client == "go/main.go" and go_program is None:
        pytest.skip("there is no Go here")
    if form == "{path}" and client != "go/main.go":
        pytest.skip("only a dialer of one's own takes a path alone")
    path = tmp_path / "procpool.sock"
    with Server("--processes", "2", "--listen", f"unix:{path}", command=MATCHES) as server:
        workers = server.wait_ready(2)
        address = form.format(tcp=server.address, path=path)
        assert end(start(client, address, node_folder, go_program)) == transcript_of(client)
        # It had a deadline, which either side may be the first to notice, and it cancelled a thousand items of half a
        # second each, after the first result.
        ends = [line["outcome"] for line in server.lines("call ") if (line["rpc"], line["function"]) == ("IMap", "rest")]
        assert ends in (["DeadlineExceeded", "cancelled"], ["cancelled", "cancelled"])
        [answer] = call(server, "Map", {"function": "rest", "values": [0, 0.125]})
        assert answer["values"] == [0, 0.125]
        assert len(server.lines("Resting for 0.5 s")) < 40, "the queues of the cancelled and the late calls never run"
        assert sorted(server.workers()) == sorted(workers), "what ran could end by itself; nobody was killed"


def full_queue(channel):
    """Fills the queue of a server: one item that runs long, and as many behind it as the server takes."""
    limit = 10_000_000
    items = pool_pb2.MapRequest(function="rest")
    items.values.extend([PATIENCE])
    null = b"\x0a\x02\x08\x00"
    values = items.values.SerializeToString() + null * (limit - 1)
    options = pool_pb2.CallOptions(chunk_size=1)
    head = pool_pb2.IMapRequest(function="rest", options=options, window=1).SerializeToString()
    method = channel.unary_stream("/procpool.v1.PoolService/IMap")
    return method(head + b"\x12" + _VarintBytes(len(values)) + values, timeout=4 * PATIENCE)


@pytest.mark.parametrize("client", PROGRAMS)
def test_a_client_calls_again_when_the_queue_was_full(client, node_folder):
    # What fills the queue keeps one slot for its grace period, and the client wants two.
    with Server("--processes", "3", command=MATCHES) as server, grpc.insecure_channel(server.address) as channel:
        server.wait_ready(3)
        filler = full_queue(channel)
        wait_until(lambda: server.lines("Resting for"), "the queue is full")
        process = start(client, server.address, node_folder)
        refused = wait_until(lambda: server.lines("call failed"), "a call is refused")
        assert refused[0]["outcome"] == "ResourceExhausted"
        filler.cancel()
        assert end(process) == transcript_of(client)


def test_clients_call_again_when_no_worker_could_start(node_folder, tmp_path):
    repaired = tmp_path / "repaired"
    worker = ["sh", "-c", f'test -e "{repaired}" && exec python -m procpool.worker examples/matches.py']
    with Server("--processes", "2", command=worker) as server:
        wait_until(lambda: server.lines("no worker can be started"), "the pool gives up waiting")
        processes = {client: start(client, server.address, node_folder) for client in PROGRAMS}
        refused = wait_until(lambda: len(found := server.lines("call failed")) >= 3 and found, "calls are refused")
        assert {line["outcome"] for line in refused} == {"Unavailable"}
        repaired.touch()
        for client, process in processes.items():
            assert end(process)[0] == transcript_of(client)[0]


def test_the_lines_in_the_docs_are_lines_of_the_examples():
    shown = blocks("from")
    assert {file for [file], _ in shown} == {*CLIENTS, "python/shared.py"}
    for [file], block in shown:
        lines = {line.strip() for line in (EXAMPLES / file).read_text().splitlines()}
        assert [line for line in block if line and line.strip() not in lines] == [], f"not in {file}"
