"""The alert rules: they fire when they should, and every metric in them is one that the node serves."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from dicom_node.ledger.database import open_database
from dicom_node.monitoring.server import NodeCollector
from dicom_node.settings import parse_settings
from tests.deployment.files import DEPLOY
from tests.peers import tool

RULES = DEPLOY / "prometheus/alerts.yml"
SCENARIOS = Path(__file__).with_name("alerts_test.yml")


def rules() -> dict[str, str]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


@pytest.mark.peer
def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    scenarios = SCENARIOS.read_text()
    assert set(re.findall(r'alertname="(\w+)"', scenarios)) == set(rules())
    (tmp_path / "alerts.yml").write_bytes(RULES.read_bytes())
    (tmp_path / "scenarios.yml").write_text(scenarios)
    done = subprocess.run(
        [tool("promtool"), "test", "rules", tmp_path / "scenarios.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_one_that_the_node_serves(tmp_path: Path) -> None:
    settings = parse_settings({"node": {"home": str(tmp_path)}}, origin="test")
    open_database(settings.database_url).dispose()
    served = {family.name for family in NodeCollector(settings, time.time).collect()}
    served |= {f"{name}_total" for name in served}  # the ending of a counter's samples
    asked = {name for expression in rules().values() for name in re.findall(r"dicom_node_\w+", expression)}
    assert len(asked) >= 10
    assert asked <= served
