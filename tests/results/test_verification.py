from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.errors import VerificationFailed
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.identity import derived_uid
from dicom_node.results.object_file import read_object, to_bytes, write_object
from dicom_node.results.rtstruct import encode_rtstruct
from dicom_node.results.verification import verify_rtstruct, verify_seg
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of

VOLUME, LABELS = volume_of(phantom("axial")), labels_of(phantom("axial"))
BOTH = pytest.mark.parametrize(
    ("encode", "verify"), [(encode_seg, verify_seg), (encode_rtstruct, verify_rtstruct)], ids=["SEG", "RTSTRUCT"]
)


def damaged(encode: Any, damage: Callable[[Dataset], None]) -> bytes:
    dataset = read_object(to_bytes(encode(VOLUME, LABELS, PROVENANCE)))
    damage(dataset)
    return to_bytes(dataset)


@BOTH
def test_a_sound_result_passes_with_its_numbers(encode: Any, verify: Any) -> None:
    verification = verify(to_bytes(encode(VOLUME, LABELS, PROVENANCE)), LABELS, VOLUME)
    assert [check.name for check in verification.checks] == [LABELS.structures[label].name for label in range(1, 10)]
    for check in verification.checks:
        assert (check.dice, check.volume_ratio, check.laterality_ok) == (1.0, 1.0, True)
        assert check.centroid_shift_mm == pytest.approx(0, abs=1e-9)


@BOTH
def test_files_are_verified_as_they_lie_on_disk(encode: Any, verify: Any, tmp_path: Path) -> None:
    path = tmp_path / "result.dcm"
    write_object(path, encode(VOLUME, LABELS, PROVENANCE))
    assert verify(path, LABELS, VOLUME).least_dice == 1.0


@BOTH
def test_one_missing_voxel_of_a_small_structure_fails_with_its_dice(encode: Any, verify: Any) -> None:
    encoded = to_bytes(encode(VOLUME, LABELS, PROVENANCE))
    labels = LABELS.labels.copy()
    k, j, i = np.argwhere(labels == 7)[0]
    labels[k, j, i + (0 if labels[k, j, i - 1] == 7 else -1)] = 7
    grown = replace(LABELS, labels=labels)
    with pytest.raises(VerificationFailed, match=r"Pancreas: Dice 0\.\d+"):
        verify(encoded, grown, VOLUME)


@BOTH
def test_a_mirrored_result_fails(encode: Any, verify: Any) -> None:
    mirrored = replace(LABELS, labels=np.ascontiguousarray(LABELS.labels[:, :, ::-1]))
    with pytest.raises(VerificationFailed, match="left and right do not agree"):
        verify(to_bytes(encode(VOLUME, mirrored, PROVENANCE)), LABELS, VOLUME)


@BOTH
def test_another_patient_fails(encode: Any, verify: Any) -> None:
    def damage(dataset: Dataset) -> None:
        dataset.PatientID = "SOMEBODY ELSE"

    with pytest.raises(VerificationFailed, match="PatientID is not the source's"):
        verify(damaged(encode, damage), LABELS, VOLUME)


@BOTH
def test_another_frame_of_reference_fails(encode: Any, verify: Any) -> None:
    def damage(dataset: Dataset) -> None:
        dataset.FrameOfReferenceUID = derived_uid("x", "y")

    with pytest.raises(VerificationFailed, match="FrameOfReferenceUID"):
        verify(damaged(encode, damage), LABELS, VOLUME)


@BOTH
def test_the_sources_own_series_fails(encode: Any, verify: Any) -> None:
    def damage(dataset: Dataset) -> None:
        dataset.SeriesInstanceUID = VOLUME.series_instance_uid

    with pytest.raises(VerificationFailed, match="source's own series"):
        verify(damaged(encode, damage), LABELS, VOLUME)


@BOTH
def test_a_structure_that_should_be_empty_fails(encode: Any, verify: Any) -> None:
    encoded = to_bytes(encode(VOLUME, LABELS, PROVENANCE))
    emptied = replace(LABELS, labels=np.where(LABELS.labels == 8, 0, LABELS.labels).astype(np.uint8))
    with pytest.raises(VerificationFailed, match="Heart came back though it has no voxel"):
        verify(encoded, emptied, VOLUME)


def test_a_segment_coded_for_the_other_side_fails() -> None:
    def damage(dataset: Dataset) -> None:
        (kind,) = dataset.SegmentSequence[1].SegmentedPropertyTypeCodeSequence
        kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = "7771000"

    with pytest.raises(VerificationFailed, match="Kidney_R: left and right do not agree"):
        verify_seg(damaged(encode_seg, damage), LABELS, VOLUME)


def test_an_roi_coded_for_the_other_side_fails() -> None:
    def damage(dataset: Dataset) -> None:
        (kind,) = dataset.RTROIObservationsSequence[1].RTROIIdentificationCodeSequence
        kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = "7771000"

    with pytest.raises(VerificationFailed, match="Kidney_R: left and right do not agree"):
        verify_rtstruct(damaged(encode_rtstruct, damage), LABELS, VOLUME)


def test_a_flipped_bit_fails() -> None:
    def damage(dataset: Dataset) -> None:
        pixels = bytearray(dataset.PixelData)
        pixels[len(pixels) // 2] ^= 1
        dataset.PixelData = bytes(pixels)

    with pytest.raises(VerificationFailed, match="Dice"):
        verify_seg(damaged(encode_seg, damage), LABELS, VOLUME)


def test_frames_on_the_wrong_plane_fail() -> None:
    def damage(dataset: Dataset) -> None:
        frames = dataset.PerFrameFunctionalGroupsSequence
        first, last = frames[0].PlanePositionSequence[0], frames[2].PlanePositionSequence[0]
        first.ImagePositionPatient, last.ImagePositionPatient = last.ImagePositionPatient, first.ImagePositionPatient

    with pytest.raises(VerificationFailed, match="Liver: Dice"):
        verify_seg(damaged(encode_seg, damage), LABELS, VOLUME)


def test_a_contour_off_its_plane_fails() -> None:
    def damage(dataset: Dataset) -> None:
        contour = dataset.ROIContourSequence[0].ContourSequence[0]
        values = [float(value) for value in contour.ContourData]
        contour.ContourData = [*values[:2], values[2] + 0.2, *values[3:]]

    with pytest.raises(VerificationFailed, match=r"0\.\d+ mm off its slice"):
        verify_rtstruct(damaged(encode_rtstruct, damage), LABELS, VOLUME)


def test_failures_name_the_object_and_the_series() -> None:
    def damage(dataset: Dataset) -> None:
        dataset.PatientID = "SOMEBODY ELSE"

    with pytest.raises(VerificationFailed) as failure:
        verify_seg(damaged(encode_seg, damage), LABELS, VOLUME)
    assert failure.value.uids["SeriesInstanceUID"] == VOLUME.series_instance_uid
    assert failure.value.uids["SOPInstanceUID"] == derived_uid(PROVENANCE.case_id, "seg/instance")
    assert "SOMEBODY" not in failure.value.message
