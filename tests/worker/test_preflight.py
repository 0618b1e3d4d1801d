"""Asking destinations as the worker starts: what is wrong is said, with what to do; nobody waits for an answer."""

from __future__ import annotations

import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.deliver.echo import EchoReport
from dicom_node.profiles import Profile
from dicom_node.settings import DestinationTable, Settings, parse_settings
from dicom_node.uids import LABEL_MAP_SEGMENTATION, RT_STRUCTURE_SET, SEGMENTATION
from dicom_node.worker.preflight import faults_of, preflight
from tests.peers import NOBODY_LISTENS, dcmqrscp, storescp
from tests.ports import free_port

EVERYTHING = {SEGMENTATION: True, LABEL_MAP_SEGMENTATION: True, RT_STRUCTURE_SET: True}


def settings_with(home: Path, *tables: DestinationTable) -> Settings:
    rows = [
        {
            "name": table.name,
            "ae_title": table.ae_title,
            "host": table.host,
            "port": table.port,
            "timeout_seconds": 10.0,
        }
        for table in tables
    ]
    return parse_settings({"node": {"home": str(home)}, "destination": rows}, origin="test")


def said(settings: Settings) -> dict[str, list[MutableMapping[str, Any]]]:
    """What was logged of each destination, once all have been asked."""
    with capture_logs() as events:
        for asker in preflight(settings):
            asker.join(timeout=60)
            assert not asker.is_alive()
    return {row.name: [event for event in events if event["destination"] == row.name] for row in settings.destination}


@NOBODY_LISTENS
@pytest.mark.peer
def test_a_destination_that_answers_and_a_port_where_nobody_listens(tmp_path: Path) -> None:
    nobody = DestinationTable(name="nobody", ae_title="NOBODY", host="127.0.0.1", port=free_port())
    with storescp(tmp_path / "peer") as peer:
        events = said(settings_with(tmp_path, peer.destination, nobody))
    assert [(event["log_level"], event["event"]) for event in events["store"]] == [("info", "destination answers")]
    (warning,) = events["nobody"]
    assert (warning["log_level"], "cannot be reached" in warning["reason"]) == ("warning", True)
    assert "check its address, AE titles" in warning["advice"]


@pytest.mark.peer
def test_a_title_that_the_peer_does_not_know_is_said(tmp_path: Path) -> None:
    with dcmqrscp(tmp_path / "peer") as peer:
        unknown = peer.destination.model_copy(update={"ae_title": "WRONG"})
        (warning,) = said(settings_with(tmp_path, unknown))["pacs"]
    assert (warning["log_level"], "rejected the association" in warning["reason"]) == ("warning", True)


@pytest.mark.peer
def test_a_class_that_is_not_accepted_is_said(tmp_path: Path) -> None:
    profile = tmp_path / "storescp.cfg"
    profile.write_text(
        "[[TransferSyntaxes]]\n[Little]\nTransferSyntax1 = LittleEndianExplicit\n"
        "[[PresentationContexts]]\n[Echo]\n"
        "PresentationContext1 = VerificationSOPClass\\Little\n"
        f"PresentationContext2 = {SEGMENTATION}\\Little\n"
        "[[Profiles]]\n[OnlySeg]\nPresentationContexts = Echo\n"
    )
    with storescp(tmp_path / "peer", "-xf", str(profile), "OnlySeg") as peer:
        (warning,) = said(settings_with(tmp_path, peer.destination))["store"]
    assert warning["reason"].startswith("it does not accept RT Structure Set Storage")
    assert "SOP class" in warning["advice"]


@pytest.mark.parametrize(
    ("profile", "lacking", "faults"),
    [
        (Profile(), RT_STRUCTURE_SET, 1),
        (Profile(results=("SEG",)), RT_STRUCTURE_SET, 0),
        (Profile(results=("RTSTRUCT",)), SEGMENTATION, 0),
        (Profile(seg="LABELMAP"), LABEL_MAP_SEGMENTATION, 0),
    ],
)
def test_only_what_the_profile_needs_is_missed(profile: Profile, lacking: str, faults: int) -> None:
    report = EchoReport(reachable=True, accepted={**EVERYTHING, lacking: False})
    assert len(list(faults_of(report, profile))) == faults


@pytest.mark.parametrize(
    ("confirm", "commits", "warnings"), [("commitment", False, 1), ("commitment", True, 0), ("auto", False, 0)]
)
def test_that_the_commitment_that_was_asked_for_is_not_to_be_had_is_said(
    tmp_path: Path, confirm: str, commits: bool, warnings: int
) -> None:
    row = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "confirm": confirm}
    settings = parse_settings({"node": {"home": str(tmp_path)}, "destination": [row]}, origin="test")
    with capture_logs() as events:
        (asker,) = preflight(settings, lambda *_: EchoReport(reachable=True, accepted=EVERYTHING, commits=commits))
        asker.join(timeout=30)
    assert [event["log_level"] for event in events].count("warning") == warnings


def test_nobody_waits_for_a_destination_that_hangs(tmp_path: Path) -> None:
    answers = threading.Event()

    def hang(_table: DestinationTable, _title: str) -> EchoReport:
        answers.wait(60)
        raise RuntimeError("broke")

    table = DestinationTable(name="slow", ae_title="SLOW", host="127.0.0.1", port=1)
    with capture_logs() as events:
        (asker,) = preflight(settings_with(tmp_path, table), hang)
        assert asker.is_alive()
        assert asker.daemon
        answers.set()
        asker.join(timeout=30)
    assert [event["event"] for event in events] == ["destination not asked"]
