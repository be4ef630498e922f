"""Telemetry: traces to a real collector, metrics to a real checker, and health for those who probe."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
import rotel
from conftest import PATIENCE, PROCPOOL, Server, call, python_worker, wait_until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from procpool.v1 import pool_pb2, pool_pb2_grpc

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
# Set up beside the virtual environment that runs this.
PROMETHEUS_FOLDER = Path(sys.prefix).parent / "tools/prometheus/usr/bin"


class Rotel:
    """A collector that prints every span that it receives."""

    def __init__(self, log: Path):
        self.log = log
        self.endpoint = f"127.0.0.1:{free_port()}"
        line = [Path(rotel.__file__).parent / "rotel-agent", "start", "--exporter", "blackhole"]
        line += ["--otlp-grpc-endpoint", self.endpoint, "--otlp-http-endpoint", f"127.0.0.1:{free_port()}"]
        line += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
        with log.open("w") as output:
            self.process = subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT)

    def spans(self) -> list[dict[str, str]]:
        """Returns the spans that were received so far: their fields and attributes."""
        spans = []
        for block in self.log.read_text().split("Span #")[1:]:
            fields = re.findall(r"^    ([A-Z][\w ]*?) *: (.*)$", block, re.MULTILINE)
            attributes = re.findall(r"^     -> ([\w.]+): \w+\((.*)\)$", block, re.MULTILINE)
            spans.append({name: value.strip() for name, value in fields + attributes})
        return spans

    def __enter__(self) -> Rotel:
        host, port = self.endpoint.split(":")
        wait_until(lambda: accepts(host, int(port)), "the collector listens")
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait(timeout=PATIENCE)


def accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def get(server: Server, path: str) -> tuple[int, str]:
    """Gets a page of the admin port."""
    try:
        with urllib.request.urlopen(f"http://{server.admin_address}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def admin_server(command: list[str] | None = None, environment: dict[str, str] | None = None) -> Server:
    arguments = ["--processes", "2", "--admin-listen", "127.0.0.1:0"]
    server = Server(*arguments, command=command, environment=environment)
    server.wait_ready(2)
    [line] = wait_until(lambda: server.lines("listening for admins"), "the admin port is open")
    server.admin_address = line["address"].removeprefix("http://")
    return server


def map_by_grpcio(server: Server, trace: str) -> list[str]:
    with grpc.insecure_channel(server.address) as channel:
        request = pool_pb2.MapRequest(function="traceparent", options={"chunk_size": 2})
        request.values.extend([1, 2, 3, 4])
        metadata = [("traceparent", trace)]
        answer = pool_pb2_grpc.PoolServiceStub(channel).Map(request, metadata=metadata, timeout=PATIENCE)
        return list(answer.values)


def map_by_command(server: Server, trace: str) -> list[str]:
    line = [PROCPOOL, "map", "traceparent", "1..4", "--chunk-size", "2", "--server", server.address]
    environment = {**os.environ, "TRACEPARENT": trace}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


TRACED_COMMAND = [str(PROCPOOL), "worker", "exec", "--function=traceparent=sh -c 'printf %s $TRACEPARENT' {}"]


@pytest.mark.parametrize(
    ("call_map", "worker"),
    [
        (map_by_grpcio, python_worker("e2e/functions.py")),
        (map_by_command, python_worker("e2e/functions.py")),
        (map_by_command, TRACED_COMMAND),
    ],
)
def test_a_trace_runs_from_the_client_through_the_server_into_the_worker(tmp_path, call_map, worker):
    with Rotel(tmp_path / "rotel.log") as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.endpoint}", "OTEL_SERVICE_NAME": "under-test"}
        with admin_server(worker, environment) as server:
            answer = call_map(server, f"00-{TRACE_ID}-{CALLER}-01")
            assert server.stop() == 0
        # What the worker was handed is the spans that the collector got.
        spans = wait_until(lambda: len(found := collector.spans()) >= 3 and found, "the spans arrive")
        assert "service.name: Str(under-test)" in collector.log.read_text()
        [map_span] = [span for span in spans if span["Kind"] == "SPAN_KIND_SERVER"]
        assert map_span["Parent ID"] == CALLER
        # The command has its results as a stream, so that it knows how far it is.
        assert map_span["Name"].removeprefix("procpool.v1.PoolService/") in ("Map", "IMap")
        chunks = [span for span in spans if span["Name"] == "run traceparent"]
        assert {span["Parent ID"] for span in chunks} == {map_span["ID"]}
        assert {span["Trace ID"] for span in spans} == {TRACE_ID}
        by_index = sorted(chunks, key=lambda span: int(span["procpool.chunk.first_index"]))
        expected = [f"00-{TRACE_ID}-{span['ID']}-01" for span in by_index for _ in range(2)]
        assert answer == expected


def test_the_metrics_pass_the_checker_and_agree_with_the_client():
    with admin_server() as server:
        call(server, "Map", {"function": "echo", "values": list(range(1234))})
        call(server, "StarMap", {"function": "power", "values": [[2, 10], [3, 3]]})
        status, text = get(server, "/metrics")
        assert status == 200
        samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert samples['procpool_items_total{function="echo",outcome="ok",pool="default"}'] == "1234"
        assert samples['procpool_items_total{function="power",outcome="ok",pool="default"}'] == "2"
        assert samples['procpool_calls_total{code="OK",method="procpool.v1.PoolService/StarMap"}'] == "1"
        assert samples['procpool_slots{pool="default",state="ready"}'] == "2"
        demand = ["slots_demanded", "backlog_seconds", "oldest_queued_seconds", "idle_seconds"]
        assert all(f'procpool_{name}{{pool="default"}}' in samples for name in demand)
        check_text(text)


def check_text(text: str) -> None:
    """Checks Prometheus text, with Prometheus' own tool in the end."""
    helps = set(re.findall(r"^# HELP (\w+) \S", text, re.MULTILINE))
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    assert helps == set(types) and all(name.startswith("procpool_") for name in types)
    for name, kind in types.items():
        assert (kind == "counter") == name.endswith("_total"), name
    for sample in re.findall(r"^(\w+)[ {]", text, re.MULTILINE):
        assert sample in types or re.sub("_(bucket|sum|count)$", "", sample) in types, sample
    path = os.pathsep.join([str(PROMETHEUS_FOLDER), os.environ["PATH"]])
    promtool = shutil.which("promtool", path=path)
    if promtool is None:
        assert shutil.which("apt-get") is None, "`cargo xtask setup` gets promtool where there is apt-get"
        pytest.skip("there is no promtool, and no apt-get to get it with")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr


def test_every_metric_is_in_the_documentation():
    with admin_server() as server:
        call(server, "Map", {"function": "echo", "values": [1]})
        _, text = get(server, "/metrics")
    documented = (Path(__file__).parent.parent / "docs" / "telemetry.md").read_text()
    names = re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    assert len(names) > 10 and [name for name in names if f"`{name}" not in documented] == []


def test_probes_are_answered_on_the_admin_port():
    with admin_server() as server:
        assert get(server, "/healthz") == (200, "ok\n")
        assert get(server, "/readyz") == (200, "ready\n")
        assert get(server, "/")[0] == 404
        with grpc.insecure_channel(server.admin_address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(health_pb2.HealthCheckRequest(service="procpool.v1.PoolService"), timeout=PATIENCE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("variables", "named", "advice"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://HOST:PORT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "not_a_url"}, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://HOST:PORT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://HOST:PORT"),
    ],
)
def test_a_collector_that_cannot_be_spoken_to_is_said_once_and_harms_nobody(variables, named, advice):
    with admin_server(environment=variables) as server:
        warnings = server.lines("telemetry is not sent")
        assert [line["signal"] for line in warnings] == ["traces", "metrics"]
        assert [line["variable"] for line in warnings] == [named] * 2
        assert advice in warnings[0]["problem"]
        assert call(server, "Map", {"function": "echo", "values": [1]}) == [{"values": [1]}]


def test_what_is_sent_is_compressed_if_the_environment_says_so():
    # The endpoint has no scheme here: that is TLS, unless the environment says otherwise.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"127.0.0.1:{listener.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_INSECURE": "true",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_METRICS_EXPORTER": "none",
        }
        with admin_server(environment=environment) as server:
            call(server, "Map", {"function": "echo", "values": [1]})
            listener.settimeout(PATIENCE)
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                received = b""
                # A message of gRPC that is compressed: its flag, its length, and gzip's first bytes.
                while not re.search(rb"\x01....\x1f\x8b\x08", received, re.DOTALL):
                    more = connection.recv(65536)
                    assert more, received
                    received += more


def test_compression_that_we_do_not_have_is_said_and_the_telemetry_sent_without(tmp_path):
    with Rotel(tmp_path / "rotel.log") as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.endpoint}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd",
        }
        with admin_server(environment=environment) as server:
            [warning, _] = server.lines("telemetry is sent without compression")
            assert (warning["variable"], warning["value"]) == ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")
            call(server, "Map", {"function": "echo", "values": [1]})
            assert server.stop() == 0
        wait_until(collector.spans, "the spans arrive")
