"""What operators ask a running node over HTTP."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydicom import dcmread

from dicom_node.deliver.sender import send
from tests.peers import await_port, run_tool, wait_until
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port
from tests.quick.node import MODULE
from tests.running_node import SENDER, RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]
SMALL = PhantomSpec(
    modality="CT", anatomy="torso", slices=40, rows=64, columns=80,
    row_spacing=5.0, column_spacing=5.0, slice_spacing=10.0,
)  # fmt: skip
PEERS = f'[[peer]]\nae_title = "{SENDER}"\naddress = "127.0.0.1"\n[[peer]]\nae_title = "*"\naddress = "127.0.0.0/8"\n'


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(port: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """Samples by name and label values."""
    status, text = ask(port, "/metrics")
    assert status == 200
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, tuple(sample.labels.values())): sample.value for sample in samples}


def reasons(port: int, path: str = "/ready") -> tuple[int, str]:
    status, text = ask(port, path)
    return status, "; ".join(json.loads(text)["reasons"])


FAST = '[[rule]]\nname = "fast"\ncard = "torso:fast"\n'


class Watched:
    """A running node and the port of its endpoint."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        config = write_config(folder, extra=f"[monitoring]\nport = {self.port}\n{PEERS}{FAST}")
        self.node = RunningNode(config, module=MODULE)


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, list[Path]]]:
    """A node that has done one series of forty images, and refused one."""
    folder = tmp_path_factory.mktemp("worked")
    files = write(SMALL, folder / "series")
    watched = Watched(folder)
    with watched.node:
        assert all(outcome.ok for outcome in watched.node.send(files[:30]))
        send(watched.node.as_destination, files[30:], calling_ae="STRANGER")
        other = dcmread(files[0])
        other.PatientName = "Another^Person"
        other.save_as(folder / "other.dcm")
        assert not any(outcome.ok for outcome in watched.node.send([folder / "other.dcm"]))
        run_tool("echoscu", "-aec", "SOMEBODY", "127.0.0.1", str(watched.node.settings.node.port))
        watched.node.wait_for_cases([str(dcmread(files[0]).SeriesInstanceUID)], seconds=240)
        assert wait_until(lambda: metrics(watched.port).get(("dicom_node_refused_instances_total", ("0111",))) == 1, 30)
        yield watched, files


@pytest.fixture
def watched(worked: tuple[Watched, list[Path]]) -> Watched:
    return worked[0]


def test_the_metrics_tell_what_happened(worked: tuple[Watched, list[Path]]) -> None:
    found = metrics(worked[0].port)
    assert found["dicom_node_received_instances_total", (SENDER,)] == 30
    assert found["dicom_node_received_instances_total", ("other",)] == 10
    assert found["dicom_node_received_bytes_total", (SENDER,)] > 30 * 64 * 80 * 2
    assert found["dicom_node_rejected_associations_total", ("7",)] == 1
    assert found["dicom_node_cases", ("done",)] == 1
    assert found["dicom_node_cases", ("held",)] == 0
    assert found["dicom_node_deliveries", ("archive", "confirmed")] == 2
    assert time.time() - found["dicom_node_destination_last_success_seconds", ("archive",)] < 300
    for step in ("assemble", "segment", "encode", "verify", "deliver archive"):
        assert found["dicom_node_step_seconds_count", (step,)] == 1
        assert found["dicom_node_step_seconds_sum", (step,)] > 0
    assert (found["dicom_node_oldest_unfinished_case_seconds", ()], found["dicom_node_queue_age_seconds", ()]) == (0, 0)


def test_the_metrics_tell_what_is_there(worked: tuple[Watched, list[Path]]) -> None:
    watched, _ = worked
    home, found = watched.node.settings.node.home, metrics(watched.port)
    on_disk = sum(path.stat().st_size for path in (home / "spool").rglob("*.dcm"))
    assert found["dicom_node_spool_bytes", ()] == on_disk
    results = sum(path.stat().st_size for path in (home / "cases").rglob("*") if path.is_file())
    assert found["dicom_node_results_bytes", ()] == results
    assert found["dicom_node_disk_free_bytes", ()] > 0
    assert found["dicom_node_disk_watermark_bytes", ()] == 256 * 1024 * 1024
    assert {role for (name, (*role,)) in found if name == "dicom_node_process_up" for role in role} == {
        "listener", "worker", "archive",
    }  # fmt: skip
    assert found["dicom_node_process_resident_bytes", ("inference",)] > 50e6
    assert found["dicom_node_ledger_up", ()] == 1


def test_no_label_names_a_patient_or_an_object(worked: tuple[Watched, list[Path]]) -> None:
    watched, files = worked
    _, text = ask(watched.port, "/metrics")
    patient = dcmread(files[0])
    for value in (patient.PatientName, patient.PatientID, patient.SeriesInstanceUID, "STRANGER", "SOMEBODY"):
        assert str(value) not in text
    assert not re.search(r'"[^"]*\d+\.\d+\.\d+\.\d+[^"]*"', text)
    assert not any(case["case_id"][:12] in text for case in watched.node.cases())


def test_a_working_node_is_healthy_and_ready(watched: Watched) -> None:
    assert json.loads(ask(watched.port, "/health")[1]) == {"healthy": True, "reasons": [], "warnings": []}
    assert json.loads(ask(watched.port, "/ready")[1]) == {"ready": True, "reasons": [], "warnings": []}
    assert ask(watched.port, "/elsewhere")[0] == 404


def test_a_locked_database_makes_it_unready_within_seconds(watched: Watched) -> None:
    locker = sqlite3.connect(watched.node.settings.node.home / "node.sqlite", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    assert reasons(watched.port) == (503, "the database cannot be written: OperationalError: database is locked")
    assert time.monotonic() - started < 15
    assert ask(watched.port, "/metrics")[0] == 200
    assert ask(watched.port, "/health")[0] == 200
    locker.execute("ROLLBACK")
    locker.close()
    assert reasons(watched.port) == (200, "")


def test_a_database_that_is_gone_makes_it_unready_and_is_not_made_anew(watched: Watched) -> None:
    file = watched.node.settings.node.home / "node.sqlite"
    file.rename(file.with_suffix(".away"))
    status, why = reasons(watched.port)
    assert (status, "there is no" in why) == (503, True)
    assert wait_until(lambda: metrics(watched.port)["dicom_node_ledger_up", ()] == 0, 20)
    assert not file.exists()
    file.with_suffix(".away").rename(file)


def test_a_process_that_is_gone_makes_it_unhealthy(tmp_path: Path) -> None:
    """The endpoint alone, beside no other process."""
    port = free_port()
    config = write_config(tmp_path, extra=f"[monitoring]\nport = {port}\n")
    process = subprocess.Popen([sys.executable, "-m", "dicom_node", "--config", str(config), "monitor"])
    try:
        await_port(port, process)
        assert reasons(port, "/health") == (
            503, "the listener does not run; the worker does not run; the archive does not run",
        )  # fmt: skip
        status, why = reasons(port)
        assert status == 503
        assert re.search(r"no node has run here.*the home cannot be read.*nobody listens on DICOM port", why)
        assert metrics(port)["dicom_node_process_up", ("worker",)] == 0
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_a_port_that_is_taken_says_so(tmp_path: Path) -> None:
    port = free_port()
    config = write_config(tmp_path, extra=f'[monitoring]\nbind = "192.0.2.1"\nport = {port}\n')
    command: list[Any] = [sys.executable, "-m", "dicom_node", "--config", config, "monitor"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, "cannot serve metrics on 192.0.2.1" in ended.stderr) == (2, True)
