"""What the machine says about the node."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from dicom_node.errors import UsageError
from dicom_node.ledger.counters import Counters
from dicom_node.ledger.database import open_database
from dicom_node.monitoring.machine import machine_measurements
from dicom_node.monitoring.readiness import STALE_SECONDS, Readiness
from dicom_node.process import role_owner
from dicom_node.settings import Settings, parse_settings
from tests.certificates import Authority


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return parse_settings({"node": {"home": str(tmp_path)}}, origin="test")


def _card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    """The driver's tool, saying what it says."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{says}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/bin:/usr/bin")


def _gpu(settings: Settings) -> dict[tuple[str, str], float]:
    families = [family for family in machine_measurements(settings) if "gpu" in family.name]
    return {(family.name, sample.labels["gpu"]): sample.value for family in families for sample in family.samples}


def test_memory_of_graphics_cards_is_told(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _card(tmp_path, monkeypatch, "echo '0, 512, 81559'; echo '1, [N/A], [N/A]'")
    assert _gpu(settings) == {
        ("dicom_node_gpu_memory_used_bytes", "0"): 512 * 2**20,
        ("dicom_node_gpu_memory_bytes", "0"): 81559 * 2**20,
    }


def test_a_driver_that_fails_costs_its_metrics_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _card(tmp_path, monkeypatch, "exit 9")
    assert _gpu(settings) == {}
    assert any(family.name == "dicom_node_disk_free_bytes" for family in machine_measurements(settings))


def test_a_worker_that_fell_silent_makes_the_node_unready(settings: Settings) -> None:
    Counters(open_database(settings.database_url)).beat("worker", 1000.0)

    def why(now: float) -> str:
        readiness = Readiness(settings, lambda: now)
        reasons = "; ".join(readiness.readiness().reasons)
        readiness.close()
        return reasons

    assert "worker" not in why(1000.0 + STALE_SECONDS)
    assert "no worker has noted for 61 s that it lives" in why(1001.0 + STALE_SECONDS)


def test_a_disk_below_its_watermark_makes_the_node_unready(tmp_path: Path) -> None:
    limits = {"free_bytes": 10**15}
    settings = parse_settings({"node": {"home": str(tmp_path)}, "limits": limits}, origin="test")
    readiness = Readiness(settings, lambda: 0.0)
    assert any("[limits] free_bytes keeps" in reason for reason in readiness.readiness().reasons)
    readiness.close()


def test_a_machine_that_only_works_is_not_asked_for_a_listener(tmp_path: Path) -> None:
    monitoring = {"port": 11114, "roles": ["worker"]}
    settings = parse_settings({"node": {"home": str(tmp_path), "port": 1}, "monitoring": monitoring}, origin="test")
    Counters(open_database(settings.database_url)).beat("worker", 1000.0)
    readiness = Readiness(settings, lambda: 1000.0)
    assert readiness.readiness().is_good
    assert readiness.health().reasons == ("the worker does not run",)
    with role_owner(tmp_path, "worker"):
        assert readiness.health().is_good
    readiness.close()


def test_a_machine_that_only_listens_waits_for_no_worker(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        node = {"home": str(tmp_path), "port": server.getsockname()[1]}
        settings = parse_settings({"node": node, "monitoring": {"roles": ["listener"]}}, origin="test")
        open_database(settings.database_url).dispose()
        readiness = Readiness(settings, lambda: 1000.0)
        assert readiness.readiness().reasons == ()
        readiness.close()


def test_every_dicom_port_has_to_listen_and_a_closed_plain_one_is_not_missed(tmp_path: Path) -> None:
    files = {key: str(tmp_path / key) for key in ("certificate", "key", "authorities")}
    with socket.create_server(("127.0.0.1", 0)) as server:
        tls = {**files, "port": server.getsockname()[1], "plain": False}
        tables = {"node": {"home": str(tmp_path), "port": 1}, "monitoring": {"roles": ["listener"]}}
        open_database(parse_settings(tables, origin="test").database_url).dispose()
        for plain, reasons in ((False, ()), (True, ("nobody listens on DICOM port 1",))):
            settings = parse_settings({**tables, "tls": {**tls, "plain": plain}}, origin="test")
            readiness = Readiness(settings, lambda: 1000.0)
            assert readiness.readiness().reasons == reasons
            readiness.close()


def test_the_dicomweb_port_has_to_listen_where_there_is_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        node = {"home": str(tmp_path), "port": server.getsockname()[1]}
        peer = {"ae_title": "WEB", "address": "127.0.0.1", "token_file": "token"}
        tables = {"node": node, "monitoring": {"roles": ["listener"]}, "dicomweb": {"port": 1}, "peer": [peer]}
        settings = parse_settings(tables, origin="test")
        open_database(settings.database_url).dispose()
        readiness = Readiness(settings, lambda: 1000.0)
        assert readiness.readiness().reasons == ("nobody listens on DICOMweb port 1",)
        readiness.close()


@pytest.mark.parametrize(
    ("days", "warning"),
    [(-1, "certificate {} has expired: peers refuse it until it is renewed"), (10, "certificate {} expires in 9 days")],
)
def test_a_certificate_that_expires_is_a_warning(tmp_path: Path, days: int, warning: str) -> None:
    credentials = Authority(tmp_path / "authority").issue("node", days=(-20, days))
    settings = parse_settings({"node": {"home": str(tmp_path)}, "tls": credentials.table}, origin="test")
    readiness = Readiness(settings, time.time)
    assert readiness.health().warnings == (warning.format(credentials.certificate),)
    readiness.close()


def test_the_day_on_which_a_certificate_expires_is_measured(tmp_path: Path) -> None:
    credentials = Authority(tmp_path / "authority").issue("node")
    settings = parse_settings({"node": {"home": str(tmp_path)}, "tls": credentials.table}, origin="test")
    families = {family.name: family for family in machine_measurements(settings)}
    (sample,) = families["dicom_node_certificate_expires_seconds"].samples
    assert sample.labels == {"path": str(credentials.certificate)}
    assert sample.value == pytest.approx(time.time() + 365 * 86400, abs=3600)


def test_workers_that_share_a_home_are_seen_to_run_beside_each_other(tmp_path: Path) -> None:
    settings = parse_settings({"node": {"home": str(tmp_path)}, "monitoring": {"roles": ["worker"]}}, origin="test")
    readiness = Readiness(settings, lambda: 1000.0)
    with role_owner(tmp_path, "worker", shared=True), role_owner(tmp_path, "worker", shared=True, patience_seconds=0):
        assert readiness.health().is_good
        with pytest.raises(UsageError), role_owner(tmp_path, "worker", patience_seconds=0):
            pass
    assert readiness.health().reasons == ("the worker does not run",)
    readiness.close()
