"""Container file, compose file, Kubernetes manifests and their node.toml say the same, and name only what there is."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dicom_node.orthanc_bridge.settings import read_settings
from dicom_node.serve import STOP_SECONDS
from dicom_node.settings import load_settings
from tests.deployment.files import (
    COMPOSE,
    CONTAINERFILE,
    DEPLOY,
    HOME,
    KUBERNETES,
    REPOSITORY,
    SETTINGS,
    Container,
    compose,
    node_containers,
    objects,
    of_kind,
    pods,
)

NODE_FILES = {"compose": COMPOSE / "node.toml", "kubernetes": KUBERNETES / "node.toml"}
KNOWN_IMAGES = {
    "dicom-node:cpu",
    "dicom-node:cuda",
    "docker.io/library/postgres:15-bookworm",
    "docker.io/orthancteam/orthanc:26.4.2",
    "docker.io/nginxinc/nginx-unprivileged:1.27",
    "docker.io/prom/prometheus:v3.2.1",
}
"""Tags that were seen to be in use by others; that of the node is what deploy/Containerfile says to build."""
containers = pytest.mark.parametrize("container", node_containers(), ids=lambda container: container.name)


def node_file(container: Container) -> Path:
    return NODE_FILES[container.name.split()[0]]


def instructions(word: str) -> list[str]:
    joined = CONTAINERFILE.read_text().replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in joined.splitlines() if line.startswith(f"{word} ")]


@pytest.mark.parametrize("path", NODE_FILES.values(), ids=NODE_FILES)
def test_settings_are_those_of_a_node_whose_parts_are_apart(path: Path) -> None:
    settings = load_settings(path)
    assert settings.is_shared
    assert str(settings.node.home) == HOME
    assert not settings.archive.enabled
    assert (settings.node.bind, settings.monitoring.bind) == ("0.0.0.0", "0.0.0.0")
    assert settings.default_destinations
    assert "@" in settings.database_url
    assert ":" not in settings.database_url.partition("://")[2].partition("@")[0], "a password in a settings file"


@containers
def test_the_command_is_one_of_the_node_s(container: Container) -> None:
    assert instructions("ENTRYPOINT") == ['["dicom-node"]']
    done = subprocess.run([sys.executable, "-m", "dicom_node", *container.arguments, "--help"], check=False)
    assert done.returncode == 0
    assert container.arguments[:2] == ("serve", "--role")
    assert container.arguments[2] == container.name.split()[1]


@containers
def test_settings_home_and_scratch_lie_where_they_are_looked_for(container: Container) -> None:
    assert container.is_read_only
    assert f"DICOM_NODE_CONFIG={SETTINGS}" in " ".join(instructions("ENV"))
    assert instructions("VOLUME") == [HOME]
    assert container.mounts[HOME] == "home"
    assert SETTINGS in container.mounts or str(Path(SETTINGS).parent) in container.mounts
    assert "/tmp" in container.mounts
    tls = load_settings(node_file(container)).tls
    for path in (tls.certificate, tls.key, tls.authorities) if tls else ():
        assert str(path.parent) in container.mounts


@containers
def test_the_password_that_the_settings_leave_out_is_given(container: Container) -> None:
    assert container.environment == {"PGPASSWORD"}


@containers
def test_ports_are_those_of_the_settings(container: Container) -> None:
    settings = load_settings(node_file(container))
    assert settings.monitoring.port is not None
    dicom = frozenset(settings.dicom_ports if "listener" in container.arguments else ())
    # compose lists what the machine publishes, and the endpoint is not among it
    watched = frozenset([settings.monitoring.port] if container.name.startswith("kubernetes") else ())
    assert container.ports == dicom | watched


def test_the_image_names_the_ports_that_may_be_open() -> None:
    settings = load_settings(NODE_FILES["kubernetes"])
    assert {int(port) for port in instructions("EXPOSE")[0].split()} == {
        *settings.dicom_ports, settings.monitoring.port,
    }  # fmt: skip


def test_the_image_asks_the_node_how_it_is() -> None:
    (check,) = instructions("HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[0] == "dicom-node"
    done = subprocess.run([sys.executable, "-m", "dicom_node", *command[1:], "--help"], check=False)
    assert done.returncode == 0


def test_the_image_runs_as_the_user_that_the_manifests_name() -> None:
    (user,) = instructions("USER")
    for name in ("listener", "worker"):
        context = pods()[name]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
        assert (context["runAsNonRoot"], str(context["fsGroup"])) == (True, user.partition(":")[2])


def test_the_image_is_made_of_files_that_there_are_and_that_are_let_through() -> None:
    let_through = (DEPLOY / "Containerfile.dockerignore").read_text()
    copied = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
    assert len(copied) >= 7
    for name in copied:
        assert (REPOSITORY / name).exists()
        assert f"\n!{name}\n" in let_through


def test_every_image_is_pinned_and_known() -> None:
    services = [*compose()["services"].values(), *compose("compose.gpu.yaml")["services"].values()]
    named = {service["image"] for service in services}
    named |= {container["image"] for pod in pods().values() for container in pod["containers"]}
    assert named == KNOWN_IMAGES
    built = re.findall(r"-t (dicom-node:\w+)", CONTAINERFILE.read_text())
    assert {image for image in named if image.startswith("dicom-node")} == set(built)


def test_the_cuda_image_is_built_as_the_container_file_says() -> None:
    arguments = compose("compose.gpu.yaml")["services"]["worker"]["build"]["args"]
    for key, value in arguments.items():
        assert f"--build-arg {key}={value}" in CONTAINERFILE.read_text()
        assert any(line.partition("=")[0] == key for line in instructions("ARG"))


def test_what_compose_mounts_is_there() -> None:
    document = compose()
    for name, service in document["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("${"):  # the viewer, which deploy/ohif/fetch brings
                continue
            is_there = (COMPOSE / source).exists() if source.startswith(".") else source in document["volumes"]
            assert is_there, f"{name} mounts {source}"


def test_the_variables_of_compose_are_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (COMPOSE / "compose.yaml").read_text()))
    offered = set(re.findall(r"(?m)^(\w+)=", (COMPOSE / ".env.example").read_text()))
    assert asked == offered


def test_in_compose_the_node_and_orthanc_know_each_other() -> None:
    document, settings = compose(), load_settings(NODE_FILES["compose"])
    orthanc = json.loads((COMPOSE / "orthanc.json").read_text())
    (subnet,) = document["networks"]["default"]["ipam"]["config"]
    peer = next(peer for peer in settings.peer if peer.ae_title == orthanc["DicomAet"])
    assert ipaddress.ip_network(peer.address) == ipaddress.ip_network(subnet["subnet"])
    (destination,) = settings.destination
    assert destination.host in document["services"]
    assert (destination.ae_title, destination.port) == (orthanc["DicomAet"], orthanc["DicomPort"])
    modality = orthanc["DicomModalities"][orthanc["DicomNode"]["Modality"]]
    assert (modality["AET"], modality["Port"]) == (settings.node.ae_title, settings.node.port)
    assert modality["Host"] in document["services"]
    bridge = read_settings(orthanc)
    assert bridge.node_url == f"http://{modality['Host']}:{settings.monitoring.port}"
    assert bridge.token == settings.monitoring.token


def test_the_database_of_the_settings_is_the_one_that_is_made() -> None:
    script = (DEPLOY / "postgresql/node-role.sh").read_text()
    for name, path in NODE_FILES.items():
        url = load_settings(path).database_url
        role, host, database = re.fullmatch(r"postgresql\+psycopg://(\w+)@(\w+)/(\w+)", url).groups()  # type: ignore[union-attr]
        assert f"CREATE ROLE {role} LOGIN" in script
        assert f"CREATE DATABASE {database} OWNER {role};" in script
        assert host in (compose()["services"] if name == "compose" else of_kind("Service"))


def test_kubernetes_makes_the_role_as_the_script_does() -> None:
    lines = [line.strip() for line in of_kind("ConfigMap")["postgresql"]["data"]["node-role.sh"].splitlines()]
    script = [line.strip() for line in (DEPLOY / "postgresql/node-role.sh").read_text().splitlines()]
    assert lines == [line for line in script if not line.startswith("# ")]


def test_prometheus_asks_every_process_of_the_node() -> None:
    document = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    (job,) = document["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    running = {container.name.split()[1] for container in node_containers()}
    assert set(discovery["names"]) == running
    assert discovery["port"] == load_settings(NODE_FILES["compose"]).monitoring.port
    assert document["rule_files"] == [path.name for path in (DEPLOY / "prometheus").glob("alerts.yml")]


@pytest.mark.parametrize("name", ["listener", "worker"])
def test_probes_ask_for_health_and_readiness(name: str) -> None:
    (container,) = pods()[name]["containers"]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
    assert paths == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    assert {container[probe]["httpGet"]["port"] for probe in paths} == {"monitoring"}


def test_the_node_gets_the_time_it_needs_to_stop() -> None:
    for name in ("listener", "worker"):
        assert pods()[name]["terminationGracePeriodSeconds"] > STOP_SECONDS + 10
        assert int(compose()["services"][name]["stop_grace_period"].removesuffix("s")) > STOP_SECONDS + 10


def test_pods_are_restricted() -> None:
    for name, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_only_workers_get_graphics_cards() -> None:
    cards = {
        name: container["resources"]["limits"].get("nvidia.com/gpu")
        for name, pod in pods().items()
        for container in pod["containers"]
    }
    assert {name for name, count in cards.items() if count} == {"worker"}


def test_what_manifests_refer_to_is_made() -> None:
    """Volumes, claims, ConfigMaps, ports and labels; the two Secrets are made by hand, and the page says how."""
    generated = {
        item["name"] for item in yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["configMapGenerator"]
    }
    page = (DEPLOY / "README.md").read_text()
    for pod in pods().values():
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in of_kind("PersistentVolumeClaim")
            if "configMap" in volume:
                assert volume["configMap"]["name"] in generated | set(of_kind("ConfigMap"))
            if "secret" in volume:
                assert f"secret generic {volume['secret']['secretName']} " in page
        for container in pod["containers"]:
            for item in container["env"]:
                secret = item.get("valueFrom", {}).get("secretKeyRef")
                assert not secret or f"secret generic {secret['name']} " in page
                assert not secret or f"--from-literal={secret['key']}=" in page


def test_services_and_policies_meet_pods_and_their_ports() -> None:
    workloads = of_kind("Deployment", "StatefulSet")
    labels = [item["spec"]["template"]["metadata"]["labels"] for item in workloads.values()]
    for item in objects():
        if item["kind"] not in {"Service", "NetworkPolicy"}:
            continue
        spec = item["spec"]
        chosen = spec["selector"] if item["kind"] == "Service" else spec["podSelector"].get("matchLabels", {})
        assert any(chosen.items() <= each.items() for each in labels), item["metadata"]["name"]
    named = {port["name"] for pod in pods().values() for each in pod["containers"] for port in each["ports"]}
    ports = [port["targetPort"] for item in of_kind("Service").values() for port in item["spec"]["ports"]]
    assert set(ports) <= named
    assert {port["port"] for port in of_kind("Service")["dicom"]["spec"]["ports"]} == set(
        load_settings(NODE_FILES["kubernetes"]).dicom_ports
    )


def test_the_network_lets_pass_what_the_settings_need() -> None:
    settings, policies = load_settings(NODE_FILES["kubernetes"]), of_kind("NetworkPolicy")
    (incoming,) = policies["dicom"]["spec"]["ingress"]
    networks = [ipaddress.ip_network(item["ipBlock"]["cidr"]) for item in incoming["from"]]
    for peer in settings.peer:
        assert any(ipaddress.ip_network(peer.address).subnet_of(network) for network in networks)  # type: ignore[arg-type]
    outgoing = [item["ipBlock"]["cidr"] for rule in policies["node-egress"]["spec"]["egress"] for item in rule["to"]
                if "ipBlock" in item]  # fmt: skip
    for destination in settings.destination:
        assert any(ipaddress.ip_address(destination.host) in ipaddress.ip_network(cidr) for cidr in outgoing)
