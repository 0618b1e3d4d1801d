"""Seven deliberate faults, each in a SEG and in an RTSTRUCT: the gate lets none of them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.errors import VerificationFailed
from dicom_node.imaging.certainty import Certainty
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import read_object, to_bytes
from dicom_node.results.rtstruct import encode_rtstruct
from dicom_node.results.verification import verify_rtstruct, verify_seg
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of

LOOSEST = Profile(contours="smooth", contour_tolerance_mm=0.2)
"""The profile whose contours the gate allows most."""
PROFILES = pytest.mark.parametrize("profile", [Profile(), LOOSEST], ids=["pixel-edge", "smooth, simplified"])


@cache
def source() -> tuple[Volume, LabelVolume]:
    """Anisotropic pixels, left and right kidney, and a certainty that puts borders midway."""
    volume, labels = volume_of(phantom("anisotropic")), labels_of(phantom("anisotropic"))
    certain = Certainty(np.full(labels.labels.shape, 255, np.uint8), np.zeros(labels.labels.shape, np.uint8))
    return volume, replace(labels, certainty=certain)


def seg(damage: Callable[[Dataset], None] | None = None) -> bytes:
    dataset = read_object(to_bytes(encode_seg(*source(), PROVENANCE)))
    if damage:
        damage(dataset)
    return to_bytes(dataset)


def rtstruct(profile: Profile, damage: Callable[[Dataset], None] | None = None, **changes: object) -> bytes:
    """A structure set of a source that was changed, or whose encoding was damaged."""
    volume, labels = source()
    if "geometry" in changes:
        volume = replace(volume, geometry=changes["geometry"])
        labels = replace(labels, geometry=changes["geometry"])
    if "labels" in changes:
        labels = replace(labels, labels=changes["labels"])
    dataset = read_object(to_bytes(encode_rtstruct(volume, labels, PROVENANCE, profile)))
    if damage:
        damage(dataset)
    return to_bytes(dataset)


def refused(encoded: bytes, reason: str, profile: Profile | None = None) -> None:
    volume, labels = source()
    verify = verify_seg if profile is None else verify_rtstruct
    with pytest.raises(VerificationFailed, match=reason):
        verify(encoded, labels, volume, profile or Profile())


def each_point(dataset: Dataset, move: Callable[[np.ndarray], np.ndarray]) -> None:
    for item in dataset.ROIContourSequence:
        for contour in item.ContourSequence:
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            contour.ContourData = [f"{value:.3f}" for value in move(points).ravel()]


def test_without_a_fault_both_pass() -> None:
    volume, labels = source()
    assert verify_seg(seg(), labels, volume).least_dice == 1.0
    assert verify_rtstruct(rtstruct(Profile()), labels, volume).least_dice == 1.0
    assert verify_rtstruct(rtstruct(LOOSEST), labels, volume, LOOSEST).least_dice >= 0.99


def test_row_and_column_spacing_swapped_in_a_seg() -> None:
    def damage(dataset: Dataset) -> None:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.PixelSpacing = measures.PixelSpacing[::-1]

    refused(seg(damage), "does not lie on the pixels of the series")


@PROFILES
def test_row_and_column_spacing_swapped_in_an_rtstruct(profile: Profile) -> None:
    true = source()[0].geometry
    swapped = replace(true, row_spacing=true.column_spacing, column_spacing=true.row_spacing)
    refused(rtstruct(profile, geometry=swapped), "Dice", profile)


def test_slice_order_reversed_in_a_seg() -> None:
    def damage(dataset: Dataset) -> None:
        frames = [f for f in dataset.PerFrameFunctionalGroupsSequence if _segment(f) == 1]
        positions = [frame.PlanePositionSequence for frame in frames]
        for frame, position in zip(frames, positions[::-1], strict=True):
            frame.PlanePositionSequence = position

    refused(seg(damage), "Liver: Dice")


@PROFILES
def test_slice_order_reversed_in_an_rtstruct(profile: Profile) -> None:
    backwards = np.ascontiguousarray(source()[1].labels[::-1])
    refused(rtstruct(profile, labels=backwards), "Dice", profile)


def test_a_half_pixel_shift_in_a_seg() -> None:
    def damage(dataset: Dataset) -> None:
        half = source()[0].geometry.column_direction * source()[0].geometry.row_spacing / 2
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            plane = frame.PlanePositionSequence[0]
            plane.ImagePositionPatient = [
                f"{float(value) + shift:.4f}" for value, shift in zip(plane.ImagePositionPatient, half, strict=True)
            ]

    refused(seg(damage), "does not lie on the pixels of the series")


@PROFILES
@pytest.mark.parametrize("axis", ["row_direction", "column_direction"])
def test_a_half_pixel_shift_in_an_rtstruct(profile: Profile, axis: str) -> None:
    geometry = source()[0].geometry
    spacing = geometry.column_spacing if axis == "row_direction" else geometry.row_spacing
    half = getattr(geometry, axis) * (spacing / 2 + 0.01)

    refused(rtstruct(profile, lambda dataset: each_point(dataset, lambda points: points + half)), "Liver", profile)


def test_a_flipped_normal_in_a_seg() -> None:
    def damage(dataset: Dataset) -> None:
        plane = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        cosines = [float(value) for value in plane.ImageOrientationPatient]
        plane.ImageOrientationPatient = [*cosines[:3], *(-value for value in cosines[3:])]

    refused(seg(damage), "does not lie on the pixels of the series")


@PROFILES
def test_a_flipped_normal_in_an_rtstruct(profile: Profile) -> None:
    geometry = source()[0].geometry
    middle = float(geometry.distances.mean())

    def mirror(points: np.ndarray) -> np.ndarray:
        return points - 2 * np.outer(points @ geometry.normal - middle, geometry.normal)

    refused(rtstruct(profile, lambda dataset: each_point(dataset, mirror)), "Dice", profile)


def test_a_wrong_slice_reference_in_a_seg() -> None:
    def damage(dataset: Dataset) -> None:
        first, second = (f.DerivationImageSequence[0] for f in dataset.PerFrameFunctionalGroupsSequence[:2])
        first.SourceImageSequence[0].ReferencedSOPInstanceUID = second.SourceImageSequence[0].ReferencedSOPInstanceUID

    refused(seg(damage), "1 slices refer to another source image")


@PROFILES
def test_a_wrong_slice_reference_in_an_rtstruct(profile: Profile) -> None:
    def damage(dataset: Dataset) -> None:
        first, *_, last = dataset.ROIContourSequence[0].ContourSequence
        uid = last.ContourImageSequence[0].ReferencedSOPInstanceUID
        first.ContourImageSequence[0].ReferencedSOPInstanceUID = uid

    refused(rtstruct(profile, damage), "1 slices refer to another source image", profile)


@pytest.mark.parametrize("codes_too", [False, True])
def test_left_and_right_names_swapped_in_a_seg(*, codes_too: bool) -> None:
    def damage(dataset: Dataset) -> None:
        left, right = (item for item in dataset.SegmentSequence if item.SegmentLabel.startswith("Kidney"))
        _swap(left, right, "SegmentLabel", *(["SegmentedPropertyTypeCodeSequence"] if codes_too else []))

    refused(seg(damage), "left and right do not agree" if codes_too else "Kidney_. is called Kidney_.")


@PROFILES
@pytest.mark.parametrize("codes_too", [False, True])
def test_left_and_right_names_swapped_in_an_rtstruct(profile: Profile, *, codes_too: bool) -> None:
    def damage(dataset: Dataset) -> None:
        left, right = (roi for roi in dataset.StructureSetROISequence if roi.ROIName.startswith("Kidney"))
        numbers = {int(left.ROINumber), int(right.ROINumber)}
        _swap(left, right, "ROIName")
        if codes_too:
            one, other = (o for o in dataset.RTROIObservationsSequence if int(o.ReferencedROINumber) in numbers)
            _swap(one, other, "RTROIIdentificationCodeSequence")

    refused(rtstruct(profile, damage), "Kidney_. is called Kidney_.", profile)


def test_one_slice_dropped_from_a_seg() -> None:
    def damage(dataset: Dataset) -> None:
        size = int(dataset.Rows) * int(dataset.Columns)
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        frames = bits[: size * int(dataset.NumberOfFrames)].reshape(-1, size)
        kept = np.packbits(np.delete(frames, 2, axis=0).ravel(), bitorder="little").tobytes()
        dataset.PixelData = kept + b"\0" * (len(kept) % 2)
        del dataset.PerFrameFunctionalGroupsSequence[2]
        dataset.NumberOfFrames = int(dataset.NumberOfFrames) - 1

    refused(seg(damage), "Dice")


@PROFILES
def test_one_slice_dropped_from_an_rtstruct(profile: Profile) -> None:
    def damage(dataset: Dataset) -> None:
        contours = dataset.ROIContourSequence[0].ContourSequence
        reference = contours[-1].ContourImageSequence[0].ReferencedSOPInstanceUID
        dataset.ROIContourSequence[0].ContourSequence = [
            item for item in contours if item.ContourImageSequence[0].ReferencedSOPInstanceUID != reference
        ]

    refused(rtstruct(profile, damage), "Liver", profile)


def test_frames_that_come_twice_do_not_make_up_for_voxels_that_are_missing() -> None:
    """The middle frame of a structure again, and as many voxels gone from the others: nothing differs in number."""

    def damage(dataset: Dataset) -> None:
        size = int(dataset.Rows) * int(dataset.Columns)
        frames = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        frames = frames[: size * int(dataset.NumberOfFrames)].reshape(-1, size).copy()
        own = [n for n, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence) if _segment(frame) == 1]
        twice = own[len(own) // 2]
        gone = int(frames[twice].sum())
        for n in own:
            if n != twice and gone:
                voxels = np.flatnonzero(frames[n])[:gone]
                frames[n, voxels] = 0
                gone -= len(voxels)
        frames = np.insert(frames, twice, frames[twice], axis=0)
        packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
        dataset.PixelData = packed + b"\0" * (len(packed) % 2)
        groups = dataset.PerFrameFunctionalGroupsSequence
        groups.insert(twice, groups[twice])
        dataset.NumberOfFrames = len(groups)

    refused(seg(damage), "is there twice")


def test_a_tolerance_that_was_not_needed_allows_nothing() -> None:
    profile = Profile(contour_tolerance_mm=0.1)
    labels = source()[1].labels.copy()
    for k in range(len(labels)):
        row, column = next(iter(np.argwhere(labels[k] == 1)), (None, None))
        if row is not None:
            labels[k, row, column] = 0
    refused(rtstruct(profile, labels=labels), "Liver: Dice", profile)


RTSTRUCT_FAULTS: dict[str, tuple[Callable[[Dataset], None], str]] = {
    "approved": (lambda d: setattr(d, "ApprovalStatus", "APPROVED"), "ApprovalStatus"),
    "somebody else's name": (lambda d: setattr(d, "PatientName", "Else^Somebody"), "PatientName"),
    "another birth date": (lambda d: setattr(d, "PatientBirthDate", "19010101"), "PatientBirthDate"),
    "a source's identity": (lambda d: setattr(d, "SOPInstanceUID", source()[0].sources[0].sop_instance_uid), "own"),
    "an ROI twice": (
        lambda d: d.StructureSetROISequence.append(d.StructureSetROISequence[0]),
        "two ROIs have one ROINumber",
    ),
    "no observation": (lambda d: d.RTROIObservationsSequence.pop(0), "0 items in RTROIObservationsSequence"),
    "contours in two items": (lambda d: d.ROIContourSequence.append(Dataset(d.ROIContourSequence[0])), "2 items|twice"),
    "types swapped": (
        lambda d: _swap(*d.RTROIObservationsSequence[:4:3], "RTROIIdentificationCodeSequence"),
        "RTROIIdentificationCodeSequence is",
    ),
    "colours swapped": (lambda d: _swap(*d.ROIContourSequence[:2], "ROIDisplayColor"), "another colour"),
    "a contour beside the image": (lambda d: _contours(d).append(_moved(_contours(d)[0], 500.0)), "leaves the image"),
    "a contour of no area": (
        lambda d: _contours(d).append(_moved(_contours(d)[0], 0.0, flat=True)),
        "encloses nothing",
    ),
    "an open contour": (lambda d: setattr(_contours(d)[0], "ContourGeometricType", "OPEN_PLANAR"), "not CLOSED_PLANAR"),
    "a wrong count": (lambda d: setattr(_contours(d)[0], "NumberOfContourPoints", 77), "says it has 77"),
    "a number twice": (lambda d: setattr(_contours(d)[1], "ContourNumber", 1), "one ContourNumber"),
    "a target volume": (lambda d: setattr(d.RTROIObservationsSequence[0], "RTROIInterpretedType", "PTV"), "not ORGAN"),
}
SEG_FAULTS: dict[str, tuple[Callable[[Dataset], None], str]] = {
    "somebody else's name": (lambda d: setattr(d, "PatientName", "Else^Somebody"), "PatientName"),
    "ten times as thick": (lambda d: setattr(_measures(d), "SliceThickness", 99), "SliceThickness is 99 mm"),
    "ten times as far": (lambda d: setattr(_measures(d), "SpacingBetweenSlices", 99), "SpacingBetweenSlices is 99"),
    "types swapped": (
        lambda d: _swap(*d.SegmentSequence[:4:3], "SegmentedPropertyTypeCodeSequence"),
        "SegmentedPropertyTypeCodeSequence is",
    ),
    "colours swapped": (lambda d: _swap(*d.SegmentSequence[:2], "RecommendedDisplayCIELabValue"), "another colour"),
    "tracked as another": (lambda d: _swap(*d.SegmentSequence[:2], "TrackingID"), "tracked as"),
    "one tracking": (
        lambda d: setattr(d.SegmentSequence[0], "TrackingUID", d.SegmentSequence[1].TrackingUID),
        "one TrackingUID",
    ),
    "another modality": (lambda d: setattr(d, "Modality", "MR"), "Modality is not SEG"),
}


@pytest.mark.parametrize("fault", RTSTRUCT_FAULTS)
def test_an_rtstruct_that_says_something_else_is_caught(fault: str) -> None:
    damage, reason = RTSTRUCT_FAULTS[fault]
    refused(rtstruct(Profile(), damage), reason, Profile())


@pytest.mark.parametrize("fault", SEG_FAULTS)
def test_a_seg_that_says_something_else_is_caught(fault: str) -> None:
    damage, reason = SEG_FAULTS[fault]
    refused(seg(damage), reason)


def _contours(dataset: Dataset) -> list[Dataset]:
    return dataset.ROIContourSequence[0].ContourSequence


def _moved(contour: Dataset, mm: float, *, flat: bool = False) -> Dataset:
    """A further contour like one that is there, moved along x; or with all its points on one line."""
    points = np.array(contour.ContourData, dtype=float).reshape(-1, 3) + np.array([mm, 0.0, 0.0])
    if flat:
        points[:, 1] = points[0, 1]
    further = Dataset(contour)
    further.ContourData = [f"{value:.3f}" for value in points.ravel()]
    further.ContourNumber = 999
    return further


def _measures(dataset: Dataset) -> Dataset:
    return dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]


def _segment(frame: Dataset) -> int:
    return int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _swap(one: Dataset, other: Dataset, *keywords: str) -> None:
    for keyword in keywords:
        first, second = one[keyword].value, other[keyword].value
        setattr(one, keyword, second)
        setattr(other, keyword, first)
