"""The files of deploy/ as programs of others judge them; each has to complain about what is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.deployment.files import COMPOSE, CONTAINERFILE, DEPLOY, KUBERNETES, linter
from tests.peers import tool

pytestmark = pytest.mark.peer
MANIFESTS = sorted(
    KUBERNETES / name for name in yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
)


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
        *((kubernetes_schema, path, "\nkind:", "\nkynd: x\nkind:") for path in MANIFESTS),
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


def test_every_yaml_file_is_tidy() -> None:
    files = sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")])
    assert len(files) >= 10
    code, said = judged(linter("yamllint"), "--strict", "--config-file", DEPLOY / ".yamllint", *files)
    assert (code, said) == (0, "")
