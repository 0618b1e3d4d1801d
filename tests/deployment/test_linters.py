"""The files of deploy/ as programs of others judge them; each has to complain about what is wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.deployment.files import COMPOSE, CONTAINERFILE, DEPLOY, KUBERNETES, compose, linter, objects
from tests.peers import tool

pytestmark = pytest.mark.peer


def judged(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=DEPLOY)
    return done.returncode, done.stdout + done.stderr


def hadolint(path: Path) -> tuple[int, str]:
    return judged(linter("hadolint"), path)


def compose_spec(path: Path) -> tuple[int, str]:
    return judged(linter("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path)


def kubernetes_schema(path: Path) -> tuple[int, str]:
    return judged(linter("kubernetes-validate"), "--strict", path)


def promtool(path: Path) -> tuple[int, str]:
    return judged(tool("promtool"), "check", "config", path)


@pytest.mark.parametrize(
    ("judge", "path", "right", "wrong"),
    [
        (hadolint, CONTAINERFILE, "USER 10001:10001\n", "USER 10001:10001\nRUN cd /tmp\n"),
        (compose_spec, COMPOSE / "compose.yaml", "    command: [serve", "    comand: [serve"),
        (compose_spec, COMPOSE / "compose.gpu.yaml", "capabilities: [gpu]", "capabilities: gpu"),
        (kubernetes_schema, KUBERNETES / "worker.yaml", "replicas: 2", "replicas: two"),
        (promtool, DEPLOY / "prometheus/prometheus.yml", "scrape_interval: 15s", "scrape_interval: 15x"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else getattr(value, "__name__", ""),
)
def test_a_file_is_good_and_a_fault_in_it_is_seen(
    judge: Callable[[Path], tuple[int, str]], path: Path, right: str, wrong: str, tmp_path: Path
) -> None:
    assert judge(path)[0] == 0, judge(path)[1]
    text = path.read_text()
    assert right in text
    (tmp_path / "alerts.yml").write_bytes((DEPLOY / "prometheus/alerts.yml").read_bytes())
    faulty = tmp_path / path.name
    faulty.write_text(text.replace(right, wrong, 1))
    assert judge(faulty)[0] != 0


def test_kubernetes_is_given_what_the_manifests_say(tmp_path: Path) -> None:
    """As kubectl apply -k sends it: every object is valid, and pods get the settings under their generated name."""
    code, said = judged(linter("kubectl"), "kustomize", KUBERNETES)
    assert code == 0, said
    (tmp_path / "all.yaml").write_text(said)
    assert kubernetes_schema(tmp_path / "all.yaml")[0] == 0
    made = list(yaml.safe_load_all(said))
    (generated,) = [item for item in made if item["kind"] == "ConfigMap" and "node.toml" in item["data"]]
    assert len(made) == len(objects()) + 1
    assert {item["metadata"].get("namespace", "dicom-node") for item in made} == {"dicom-node"}
    assert generated["data"]["node.toml"] == (KUBERNETES / "node.toml").read_text()
    mounted = [
        volume["configMap"]["name"]
        for item in made if item["kind"] == "Deployment"
        for volume in item["spec"]["template"]["spec"]["volumes"] if "configMap" in volume
    ]  # fmt: skip
    assert mounted == [generated["metadata"]["name"]] * 2


def test_the_graphics_card_is_added_to_the_worker_alone(tmp_path: Path) -> None:
    """As a compose program reads both files, with its anchors and variables resolved."""
    podman = tmp_path / "podman"  # asked for its version and for nothing else
    podman.write_text("#!/bin/sh\necho podman version 4.3.1\n")
    podman.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NODE_PASSWORD": "one", "POSTGRES_PASSWORD": "two"}
    files = ["-f", COMPOSE / "compose.yaml", "-f", COMPOSE / "compose.gpu.yaml"]
    done = subprocess.run(
        [linter("podman-compose"), *files, "config"], capture_output=True, text=True, check=True, env=environment
    )
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == set(compose()["services"])
    assert {name for name, service in services.items() if "deploy" in service} == {"worker"}
    assert services["worker"]["image"] == "dicom-node:cuda"
    assert {key: services["worker"][key] for key in ("command", "read_only", "environment")} == {
        "command": ["serve", "--role", "worker"], "read_only": True, "environment": {"PGPASSWORD": "one"},
    }  # fmt: skip


def test_every_yaml_file_is_tidy() -> None:
    files = sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")])
    assert len(files) >= 10
    code, said = judged(linter("yamllint"), "--strict", "--config-file", DEPLOY / ".yamllint", *files)
    assert (code, said) == (0, "")
