"""What a peer says beside a status reaches the log and the ledger, and the patient does not."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt

from dicom_node.deliver.peer_words import without_patient
from dicom_node.deliver.sender import send
from tests.deliver.scripted_peer import ScriptedPeer, scripted_peer
from tests.peers import CALLING_AE


@pytest.fixture
def result(objects: list[Path], tmp_path: Path) -> Path:
    dataset = pydicom.dcmread(objects[0])
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Müller^Anna", "PID-4711", "19700131"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.save_as(tmp_path / "result.dcm")
    return tmp_path / "result.dcm"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", ""),
        ("out of disk", "out of disk"),
        ("no study for Müller^Anna", "no study for ..."),
        ("ANNA MÜLLER (pid-4711, 19700131) is locked", "... ... (..., ...) is locked"),
        ("patient 4711 has been merged", "patient ... has been merged"),
        ("x" * 500, "x" * 64),
        ("disk\0full\udc80\r\n", "disk full"),
    ],
)
def test_the_patient_is_left_out(result: Path, words: str, kept: str) -> None:
    assert without_patient(words, result) == kept


def test_of_a_result_that_cannot_be_read_nothing_is_said(tmp_path: Path) -> None:
    assert without_patient("no study for Anna", tmp_path / "missing") == ""


def test_a_refusal_that_names_the_patient_is_told_without_it(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_peer: ScriptedPeer, _event: evt.Event) -> Dataset:
        answer = Dataset()
        answer.Status, answer.ErrorComment = 0xA700, "quota of Anna Muller is used up"
        return answer

    monkeypatch.setattr(ScriptedPeer, "on_store", refuse)
    with scripted_peer() as peer:
        (outcome,) = send(peer.destination, [result], CALLING_AE)
    assert outcome.message == "not stored, C-STORE status A700: quota of ... Muller is used up"
