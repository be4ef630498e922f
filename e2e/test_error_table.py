"""The table of errors, errors.json, from Python's grpcio: each row is made to happen, and its error is read whole.

server/tests/server/error_table.rs does the same in Rust.
"""

import json
import signal
import subprocess
import threading

import grpc
import pytest
from conftest import PATIENCE, PROCPOOL, ROOT, Server, python_worker, wait_until
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from procpool.v1 import pool_pb2, pool_pb2_grpc

ROWS = json.loads((ROOT / "e2e/errors.json").read_text())
WORKERS = {
    "functions": python_worker("e2e/error_functions.py"),
    "garbles": ["env", "ERROR_FUNCTIONS_GARBLE=1", *python_worker("e2e/error_functions.py")],
    "fails": ["false"],
}


def send(stub, row, timeout=PATIENCE):
    """Makes the call that a row, or a part of it, describes."""
    method = row.get("method", "Map")
    request = getattr(pool_pb2, f"{method}Request")(function=row["function"])
    fields = {"options": row.get("options", {}), "values": row["values"] * row.get("times", 1)}
    if "common" in row:
        fields["common_value"] = row["common"]
    json_format.ParseDict(fields, request)
    return getattr(stub, method)(request, timeout=row.get("timeout", timeout))


def pool_of(server):
    line = [PROCPOOL, "workers", "--output", "json", "--server", f"http://{server.address}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return json.loads(done.stdout)


def running_items(server):
    return pool_of(server)["num_running_items"]


def pid_of_a_working_worker(server):
    """Returns the pid of the only worker, which has just done something."""
    with grpc.insecure_channel(server.address) as channel:
        send(pool_pb2_grpc.PoolServiceStub(channel), {"function": "echo", "values": [1]})
    [worker] = pool_of(server)["workers"]
    return worker["pid"]


def is_serving(channel):
    health = health_pb2_grpc.HealthStub(channel)
    status = health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE, wait_for_ready=True).status
    return status == health_pb2.HealthCheckResponse.SERVING


def details_of(status):
    """Returns the details of an error, by the name of their type."""
    found = {}
    for detail in status.details if status else []:
        kind = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])
        found[kind.__name__] = kind()
        assert detail.Unpack(found[kind.__name__])
    return found


def provoke(server, row):
    """Makes the error of a row happen, and returns its status, and the error of the call unless an item failed."""
    with grpc.insecure_channel(server.address) as channel:
        stub = pool_pb2_grpc.PoolServiceStub(channel)
        if "before" in row:
            send(stub, row["before"])
        beside = None
        if "beside" in row:
            beside = threading.Thread(target=ignore_errors, args=(send, stub, row["beside"]))
            beside.start()
            wait_until(lambda: running_items(server), "the other call runs")
        if row.get("cancel"):
            threading.Thread(target=cancel_the_first_job, args=(server,)).start()
        try:
            if row.get("drain"):
                server.process.send_signal(signal.SIGTERM)
                with grpc.insecure_channel(server.address) as other:
                    wait_until(lambda: not is_serving(other), "the server drains")
            if row.get("method") == "IMap":
                [item_error] = [error for message in send(stub, row) for error in message.errors]
                return item_error.status, None
            with pytest.raises(grpc.RpcError) as caught:
                send(stub, row)
        finally:
            if beside:
                channel.close()
                beside.join(timeout=PATIENCE)
        return rpc_status.from_call(caught.value), caught.value


def cancel_the_first_job(server):
    [job] = wait_until(lambda: pool_of(server)["jobs"], "the call is a job")
    line = [PROCPOOL, "cancel", str(job["job"]), "--server", f"http://{server.address}"]
    subprocess.run(line, timeout=PATIENCE, check=True)


def ignore_errors(function, *arguments):
    try:
        function(*arguments)
    except (grpc.RpcError, ValueError):
        pass


@pytest.mark.parametrize("row", ROWS, ids=[row["situation"] for row in ROWS])
def test_row(row):
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in row.get("settings", {}).items()]
    with Server("--processes", "1", *settings, command=WORKERS[row.get("worker", "functions")]) as server:
        pid = pid_of_a_working_worker(server) if row.get("worker_lives") else None
        status, error = provoke(server, row)
        code = error.code() if error else next(code for code in grpc.StatusCode if code.value[0] == status.code)
        assert code.name == row["code"], error
        details = details_of(status)
        if not details and row.get("client_may_be_faster"):
            return
        info = details["ErrorInfo"]
        assert (info.domain, info.reason) == ("procpool", row["reason"])
        assert row["metadata"].items() <= dict(info.metadata).items()
        assert details.keys() <= set(row["details"]) and set(row["details"]) - details.keys() <= set(
            row.get("may_lack", [])
        )
        if "field" in row:
            assert [violation.field for violation in details["BadRequest"].field_violations] == [row["field"]]
        if pid:
            assert pid_of_a_working_worker(server) == pid
        if error is None:
            return
        pushback = int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])
        if "RetryInfo" in row["details"]:
            delay = details["RetryInfo"].retry_delay
            assert pushback == delay.seconds * 1000 + delay.nanos // 1_000_000 > 0
        else:
            assert pushback < 0
