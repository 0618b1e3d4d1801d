"""SIGTERM of a node at work: nobody new gets in, who is there may finish, and it ends well."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE

from dicom_node.ledger.cases import Cases
from dicom_node.ledger.database import open_database
from dicom_node.ledger.intake import Intake
from dicom_node.process import is_bound
from dicom_node.serve import STOP_SECONDS
from dicom_node.settings import load_settings
from tests.monitoring.test_endpoint import SMALL
from tests.node.test_kill import CASE_SECONDS
from tests.peers import await_port, wait_until
from tests.phantoms import PhantomSpec, write
from tests.running_node import RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def _messages(manager: socket.socket) -> list[str]:
    """What the node told its service manager so far."""
    found = []
    while True:
        try:
            found.append(manager.recv(100).decode())
        except BlockingIOError:
            return found


def _told(manager: socket.socket, message: str, so_far: list[str]) -> bool:
    so_far += _messages(manager)
    return message in so_far


def test_a_node_that_is_stopped_at_work_drains(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    settings = load_settings(config)
    series, late = write(SMALL, tmp_path / "series"), write(PhantomSpec(slices=3, rows=70), tmp_path / "late")
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (tmp_path / "log").open("wb") as log:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        command = [sys.executable, "-m", "dicom_node", "--config", str(config), "serve"]
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen(command, env=environment, stderr=log)
        try:
            await_port(settings.node.port, process, 120)
            assert wait_until(lambda: _told(manager, "READY=1", told), 30)
            assert wait_until(lambda: _told(manager, "WATCHDOG=1", told), 30)
            assert all(outcome.ok for outcome in RunningNode(config).send(series))
            cases = Cases(open_database(settings.database_url))
            assert wait_until(lambda: [case.state for case in cases.list()] == ["segmenting"], CASE_SECONDS)

            first, second, _ = map(dcmread, late)
            entity = AE(ae_title="SCANNER")
            entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
            association = entity.associate("127.0.0.1", settings.node.port, ae_title="DICOM_NODE")
            assert association.send_c_store(first).Status == 0
            process.send_signal(signal.SIGTERM)
            stopped = time.monotonic()
            assert wait_until(lambda: not is_bound(settings.node.port), 4), "it still listens"
            assert association.send_c_store(second).Status == 0
            association.release()

            assert process.wait(STOP_SECONDS + 15) == 0
            assert time.monotonic() - stopped < STOP_SECONDS + 15
            assert _told(manager, "STOPPING=1", told)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            sys.stderr.write((tmp_path / "log").read_text())
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert "unexpected error" not in (tmp_path / "log").read_text()
    intake = Intake(open_database(settings.database_url))
    assert [intake.find(str(image.SOPInstanceUID)) is not None for image in (first, second)] == [True, True]
    case = cases.list()[0]
    assert (case.attempt, case.state in {"waiting", "held"}) == (1, False)  # how far it came, the machine decides
