"""The files of deploy/ as what they mean: services, workloads, settings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.installed import missing

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
COMPOSE = DEPLOY / "compose"
KUBERNETES = DEPLOY / "kubernetes"
CONTAINERFILE = DEPLOY / "Containerfile"
HOME = "/var/lib/dicom-node"
SETTINGS = "/etc/dicom-node/node.toml"


@dataclass(frozen=True)
class Container:
    """A container of the node, whoever starts it.

    Attributes:
        name: Of the service or workload.
        arguments: What its entry point is given.
        environment: Names of the variables it gets.
        mounts: What lies at which path: a file, a volume, a Secret.
        ports: Those it says it has.
        is_read_only: Whether it can write to its volumes alone.
    """

    name: str
    arguments: tuple[str, ...]
    environment: frozenset[str]
    mounts: Mapping[str, str]
    ports: frozenset[int]
    is_read_only: bool


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    """A compose file."""
    document: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text())
    return document


def objects() -> list[dict[str, Any]]:
    """Every object that kubectl apply -k makes, the generated ConfigMaps aside."""
    names = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    return [item for name in names for item in yaml.safe_load_all((KUBERNETES / name).read_text())]


def of_kind(*kinds: str) -> dict[str, dict[str, Any]]:
    """Objects of some kinds, by name."""
    return {item["metadata"]["name"]: item for item in objects() if item["kind"] in kinds}


def pods() -> dict[str, dict[str, Any]]:
    """The pod template of every workload, by name."""
    return {name: item["spec"]["template"]["spec"] for name, item in of_kind("Deployment", "StatefulSet").items()}


def node_containers() -> list[Container]:
    """Every container that runs the node."""
    return [*_of_compose(), *_of_kubernetes()]


def _of_compose() -> Iterator[Container]:
    for name, service in compose()["services"].items():
        if not service["image"].startswith("dicom-node:"):
            continue
        mounts = dict(reversed(volume.split(":")[:2]) for volume in service["volumes"])
        yield Container(
            f"compose {name}",
            tuple(service["command"]),
            frozenset(service["environment"]),
            {**mounts, **dict.fromkeys(service["tmpfs"], "memory")},
            frozenset(int(str(port).rpartition(":")[2]) for port in service.get("ports", ())),
            service["read_only"],
        )


def _of_kubernetes() -> Iterator[Container]:
    for name, pod in pods().items():
        for container in pod["containers"]:
            if not container["image"].startswith("dicom-node:"):
                continue
            yield Container(
                f"kubernetes {name}",
                tuple(container["args"]),
                frozenset(item["name"] for item in container["env"]),
                {item["mountPath"]: item["name"] for item in container["volumeMounts"]},
                frozenset(item["containerPort"] for item in container["ports"]),
                container["securityContext"]["readOnlyRootFilesystem"],
            )


def linter(name: str) -> str:
    """Path of a program of deploy/linters-constraints.txt; the test is skipped where it is not installed."""
    path = REPOSITORY / ".cache/linters/bin" / name
    if path.exists():
        return str(path)
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed (deploy/test)")
    return found
