"""Whose images they are is read as far as it can be read; no file keeps the trail from going on."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from dicom_node.audit.messages import Patient
from dicom_node.audit.patients import patient_of
from tests.phantoms import PhantomSpec, write


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(PhantomSpec(slices=1, patient_id="4711"), tmp_path)[0]


def test_identifier_name_and_study_are_read(image: Path) -> None:
    dataset = pydicom.dcmread(image)
    expected = Patient("4711", str(dataset.PatientName), str(dataset.StudyInstanceUID))
    assert patient_of({"path": str(image)}) == expected


def test_names_in_other_letters_are_read(image: Path) -> None:
    dataset = pydicom.dcmread(image)
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 144", "Щербакова^Ярославна"
    dataset.save_as(image)
    assert patient_of({"path": str(image)}).name == "Щербакова^Ярославна"


def test_a_name_that_is_no_text_is_left_out(image: Path) -> None:
    image.write_bytes(image.read_bytes().replace(b"\x10\x00\x10\x00PN", b"\x10\x00\x10\x00FD"))
    assert patient_of({"path": str(image)}).name == ""
    assert patient_of({"path": str(image)}).patient_id == "4711"


@pytest.mark.parametrize("content", [None, b"", b"no image", bytes(132)])
def test_a_file_that_is_no_image_names_nobody(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert patient_of({"path": str(path)}) == Patient()


def test_what_is_about_no_image_names_nobody() -> None:
    assert patient_of({}) == Patient()
