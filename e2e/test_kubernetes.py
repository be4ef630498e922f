"""The manifests: valid for Kubernetes, admitted by the strictest policy, and in agreement with each other.

That the image runs, and ends as it should, is the business of image.py, which needs podman.
"""

import json
import re
import socket
import subprocess
import sys
import urllib.request

import grpc
import kubernetes_validate
import pytest
import yaml
from conftest import PATIENCE, PROCPOOL, ROOT, python_worker, wait_until
from grpc_health.v1 import health_pb2, health_pb2_grpc

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

# The oldest that has all we use without a feature gate to be opened, and the newest whose schemas we have.
VERSIONS = ["1.30", "1.37"]
# What the pool takes to end workers that ignore SIGTERM.
KILL_GRACE_PERIOD = 2
# And the last telemetry, for a collector that does not answer.
LAST_EXPORT_TIMEOUT = 2


def render(folder: str) -> list[dict]:
    """Returns the objects that `kubectl apply -k` would send."""
    line = [f"{sys.prefix}/bin/kubectl", "kustomize", f"k8s/{folder}"]
    return list(yaml.safe_load_all(subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True).stdout))


@pytest.fixture(scope="module")
def objects() -> dict[str, dict]:
    """The objects of the base by kind and name, without the hash at the end of a generated name."""
    found = {}
    for each in render("base"):
        kind, name = each["kind"], each["metadata"]["name"]
        found[f"{kind}/{re.sub('-[a-z0-9]{10}$', '', name) if kind == 'ConfigMap' else name}"] = each
    return found


@pytest.fixture(scope="module")
def deployment(objects):
    return objects["Deployment/procpool"]


@pytest.fixture(scope="module")
def pod(deployment):
    return deployment["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    [container] = pod["containers"]
    return container


@pytest.fixture(scope="module")
def settings(objects):
    return tomllib.loads(objects["ConfigMap/procpool"]["data"]["procpool.toml"])


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(ms|s|min|h)", duration).groups()
    return float(number) * {"ms": 0.001, "s": 1, "min": 60, "h": 3600}[unit]


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", ["base", "python", "test"])
def test_every_object_is_valid(folder, version):
    for each in render(folder):
        kubernetes_validate.validate(each, version, strict=True)


def test_the_validation_would_find_a_misspelt_field(deployment):
    spec = {**deployment["spec"], "replica": 2}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate({**deployment, "spec": spec}, VERSIONS[-1], strict=True)


def test_the_base_is_complete(objects):
    assert sorted(objects) == [
        "ConfigMap/procpool",
        "Deployment/procpool",
        "HorizontalPodAutoscaler/procpool",
        "PodDisruptionBudget/procpool",
        "Service/procpool",
        "Service/procpool-headless",
    ]


def test_the_policy_restricted_admits_the_pod(pod, container):
    """The rules of the Pod Security Standard "restricted", one by one."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not security.keys() & {"privileged", "runAsUser", "runAsNonRoot", "seccompProfile", "procMount"}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert not any("hostPort" in port for port in container["ports"])
    allowed = "configMap csi downwardAPI emptyDir ephemeral persistentVolumeClaim projected secret".split()
    assert all(volume.keys() <= {"name", *allowed} for volume in pod["volumes"])
    # And more than it asks for.
    assert security["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False


def test_the_python_overlay_runs_what_its_image_holds():
    objects = {each["kind"]: each for each in render("python")}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"].startswith("localhost/matches:")
    settings = tomllib.loads(objects["ConfigMap"]["data"]["procpool.toml"])
    *worker, module = settings["pools"]["default"]["command"]
    assert worker == python_worker(module)[:-1]
    assert f"\nCOPY examples/matches.py {module}\n" in (ROOT / "k8s/python/Containerfile").read_text()
    # Mounted under the name that the hash of these settings has made, and a place to write to.
    sources = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: sources[mount["name"]] for mount in container["volumeMounts"]}
    assert mounts["/etc/procpool"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert "sizeLimit" in mounts["/tmp"]["emptyDir"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_user_and_ports_are_those_of_the_image(pod, container):
    image = (ROOT / "Containerfile").read_text()
    assert f"\nUSER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n" in image
    ports = " ".join(str(port["containerPort"]) for port in container["ports"])
    assert f"\nEXPOSE {ports}\n" in image
    # What it exposes it serves, also where nobody gives it arguments.
    [command] = re.findall(r"^CMD (.*)$", image, re.MULTILINE)
    assert [argument.rpartition(":")[2] for argument in json.loads(command) if ":" in argument] == ports.split()
    assert "command" not in container, "the image's entry point is the server"


def test_the_image_has_the_version_of_the_workspace(container):
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert container["image"] == f"localhost/procpool:{version}"


def test_there_is_time_to_end(pod, container, settings):
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = pre_stop + seconds(settings["drain_timeout"]) + KILL_GRACE_PERIOD + LAST_EXPORT_TIMEOUT
    assert pod["terminationGracePeriodSeconds"] >= needed + 5
    # Nothing that keeps to its time limit is cut off.
    assert seconds(settings["pools"]["default"]["item_timeout"]) < seconds(settings["drain_timeout"])
    # By the end of preStop everybody has been told that the pod is not ready.
    assert pre_stop >= container["readinessProbe"]["periodSeconds"]


def test_settings_and_ports_agree(objects, pod, container, settings):
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert [port_of(address) for address in settings["listen"]] == [ports["grpc"]]
    assert port_of(settings["admin_listen"]) == ports["admin"]
    assert not any(address.startswith("127.") for address in [*settings["listen"], settings["admin_listen"]])
    # The native probe takes a number only, on the port that has neither TLS nor a login.
    assert container["readinessProbe"]["grpc"] == {"port": ports["admin"]}
    assert container["livenessProbe"]["httpGet"]["port"] in ports
    for service in ["Service/procpool", "Service/procpool-headless"]:
        assert all(port["targetPort"] in ports for port in objects[service]["spec"]["ports"])


def test_the_settings_are_mounted_where_they_are_looked_for(objects, pod, container):
    config = container["args"][container["args"].index("--config") + 1]
    [mount] = container["volumeMounts"]
    [volume] = pod["volumes"]
    assert config == f"{mount['mountPath']}/procpool.toml" and mount["readOnly"]
    assert mount["name"] == volume["name"]
    # With the hash: a change of the settings is a change of the pod.
    assert volume["configMap"]["name"] == objects["ConfigMap/procpool"]["metadata"]["name"] != "procpool"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_server_takes_settings_and_arguments_and_answers_the_probes(tmp_path, objects, container):
    listen, admin = free_port(), free_port()
    text = objects["ConfigMap/procpool"]["data"]["procpool.toml"]
    path = tmp_path / "procpool.toml"
    path.write_text(text.replace("0.0.0.0:50051", f"127.0.0.1:{listen}").replace("0.0.0.0:9464", f"127.0.0.1:{admin}"))
    line = [PROCPOOL, *(str(path) if each.endswith("procpool.toml") else each for each in container["args"])]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline().startswith("listening on ")
            with grpc.insecure_channel(f"127.0.0.1:{admin}") as channel:
                health = health_pb2_grpc.HealthStub(channel)
                request = health_pb2.HealthCheckRequest(service=container["readinessProbe"]["grpc"].get("service", ""))
                serving = health_pb2.HealthCheckResponse.SERVING
                wait_until(lambda: health.Check(request, timeout=PATIENCE).status == serving, "it is ready")
            alive = f"http://127.0.0.1:{admin}{container['livenessProbe']['httpGet']['path']}"
            with urllib.request.urlopen(alive, timeout=PATIENCE) as answer:
                assert answer.status == 200
        finally:
            server.terminate()
    assert server.returncode == 0


def test_slots_are_whole_cpus_that_are_really_there(container, settings):
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests == limits and limits.keys() == {"cpu", "memory"}
    assert int(limits["cpu"]) >= 1
    # The server counts them itself.
    assert not any("processes" in pool for pool in settings["pools"].values())


def test_clients_can_balance(objects, deployment, container):
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    balanced, headless = objects["Service/procpool"]["spec"], objects["Service/procpool-headless"]["spec"]
    assert headless["clusterIP"] == "None" and "clusterIP" not in balanced
    assert balanced.get("type", "ClusterIP") == "ClusterIP"
    assert all(spec["selector"].items() <= labels.items() for spec in [balanced, headless])
    numbers = {port["name"]: port["containerPort"] for port in container["ports"]}
    # Behind a headless name are the pods themselves: what the Service calls a port must be theirs.
    assert all(port["port"] == numbers[port["targetPort"]] for port in headless["ports"])


def test_pods_come_and_go_one_at_a_time(objects, deployment, container):
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    budget = objects["PodDisruptionBudget/procpool"]["spec"]
    assert budget["maxUnavailable"] == 1 and budget["selector"]["matchLabels"] == labels
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    scaler = objects["HorizontalPodAutoscaler/procpool"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "procpool"}
    assert "replicas" not in deployment["spec"], "applying it would undo what the autoscaler did"
    assert scaler["minReplicas"] >= 2, "or the budget lets the only pod go"
    [metric] = scaler["metrics"]
    assert metric["containerResource"]["container"] == container["name"]
    assert metric["containerResource"]["name"] == "cpu"
