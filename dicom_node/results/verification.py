"""Promise 4: a result is decoded again from its encoded bytes and compared with the label volume it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pydicom import Dataset

from dicom_node.anatomy import Structure
from dicom_node.errors import InputRefused, VerificationFailed
from dicom_node.imaging.geometry import PLANE_TOLERANCE_MM
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile
from dicom_node.results.attributes import identity_faults, measure_faults, rtstruct_faults, seg_faults
from dicom_node.results.comparison import StructureCheck, compare
from dicom_node.results.decoded import DecodedMask, DecodedObject
from dicom_node.results.object_file import Encoded, read_object
from dicom_node.results.rtstruct import roi_names
from dicom_node.results.rtstruct_decoding import decode_rtstruct
from dicom_node.results.seg_decoding import decode_seg

SIMPLIFIED_DICE = 0.99
"""Least Dice of contours that were simplified; everything else has to come back voxel for voxel."""
SIMPLIFIED_VOLUME = 0.02
SIMPLIFIED_CENTROID = 0.25
"""Of a pixel: simplification takes points on both sides and moves no centroid; a half-pixel shift does."""
MOST_FAULTS = 12
"""Faults that a message names."""


@dataclass(frozen=True)
class Verification:
    """A result that passed.

    Attributes:
        kind: "SEG", "RTSTRUCT" or "SC".
        sop_instance_uid: The object that was checked.
        checks: One per structure with voxels, by label; none for a key image, which holds no voxels.
    """

    kind: str
    sop_instance_uid: str
    checks: tuple[StructureCheck, ...]

    @property
    def least_dice(self) -> float:
        """The worst structure's Dice; 1 for a key image that passed: each of its contours lies on its structure."""
        return min((check.dice for check in self.checks), default=1.0)


def verify_seg(
    encoded: Encoded, label_volume: LabelVolume, volume: Volume, profile: Profile | None = None
) -> Verification:
    """Decode a Segmentation and compare it voxel by voxel.

    Args:
        encoded: The file, or its bytes.
        label_volume: What it was made from.
        volume: The source.
        profile: What it was made for; the default profile where None.

    Raises:
        VerificationFailed: With the numbers: a voxel differs, a side or name is wrong, a frame refers to another slice,
            or patient, study, series or frame of reference are not the source's.
    """
    profile = profile or Profile()
    dataset = read_object(encoded)
    wanted = _wanted(label_volume, profile)
    names = {label: profile.segment_label(structure) for label, structure in wanted.items()}
    expected = _Expected("SEG", wanted, names)
    return _verify(dataset, expected, label_volume, volume)


def verify_rtstruct(
    encoded: Encoded, label_volume: LabelVolume, volume: Volume, profile: Profile | None = None
) -> Verification:
    """Decode an RT Structure Set and compare it: voxels, volume, centroid, sides, names, references, planes.

    Contours that were not simplified have to give every voxel back; simplified ones nearly so, on every slice.

    Args:
        encoded: The file, or its bytes.
        label_volume: What it was made from.
        volume: The source.
        profile: What it was made for; the default profile where None.

    Raises:
        VerificationFailed: With the numbers.
    """
    profile = profile or Profile()
    dataset = read_object(encoded)
    wanted = _wanted(label_volume, profile)
    expected = _Expected("RTSTRUCT", wanted, roi_names(wanted, profile), _simplified(label_volume, wanted, profile))
    return _verify(dataset, expected, label_volume, volume)


@dataclass(frozen=True)
class _Expected:
    kind: str
    structures: Mapping[int, Structure]
    names: Mapping[int, str]
    simplified: frozenset[int] = frozenset()


@dataclass
class _Places:
    """What is wrong with where masks say they lie; gathered as they pass by."""

    volume: Volume
    off_plane_mm: float = 0.0
    misplaced: set[int] = field(default_factory=set)
    contour_faults: set[str] = field(default_factory=set)

    def watch(self, masks: Iterator[DecodedMask]) -> Iterator[DecodedMask]:
        for mask in masks:
            self.off_plane_mm = max(self.off_plane_mm, mask.off_plane_mm)
            self.contour_faults.update(mask.faults)
            source = self.volume.sources[mask.k]
            if mask.references != ((source.sop_instance_uid, source.frame_number),):
                self.misplaced.add(mask.k)
            yield mask

    def faults(self) -> Iterator[str]:
        yield from sorted(self.contour_faults)
        if self.off_plane_mm > PLANE_TOLERANCE_MM:
            yield f"a contour point lies {self.off_plane_mm:.3f} mm off its slice"
        if self.misplaced:
            yield f"{len(self.misplaced)} slices refer to another source image than the one they lie on"


def _wanted(label_volume: LabelVolume, profile: Profile) -> dict[int, Structure]:
    return {label: structure for label, structure in label_volume.present() if profile.wants(structure)}


def _simplified(label_volume: LabelVolume, labels: Iterable[int], profile: Profile) -> frozenset[int]:
    """The labels whose contours the profile allows to be simplified."""
    if not profile.contour_tolerance_mm:
        return frozenset()
    if profile.contour_points is not None:
        return frozenset(labels)
    if profile.contours != "smooth":
        return frozenset()
    return frozenset(label for label in labels if label_volume.layer_of(label).certainty is not None)


def _verify(dataset: Dataset, expected: _Expected, label_volume: LabelVolume, volume: Volume) -> Verification:
    decode = decode_seg if expected.kind == "SEG" else decode_rtstruct
    places = _Places(volume)
    try:
        read = decode(dataset, label_volume.geometry)
        decoded = replace(read, masks=lambda: places.watch(read.masks()))
        checks = compare(label_volume, expected.structures, decoded)
    except InputRefused as refusal:
        raise _failure(dataset, volume, expected, [refusal.message]) from refusal
    geometry = label_volume.geometry
    centroid_mm = SIMPLIFIED_CENTROID * min(geometry.row_spacing, geometry.column_spacing)
    faults = [
        fault for check in checks if (fault := _fault(check, centroid_mm, exact=check.label not in expected.simplified))
    ]
    faults += places.faults()
    faults += identity_faults(dataset, volume)
    faults += _series_faults(dataset, volume)
    faults += _naming_faults(expected, read)
    if expected.kind == "SEG":
        faults += seg_faults(dataset, expected.structures)
        faults += measure_faults(dataset, volume)
    else:
        faults += rtstruct_faults(dataset, expected.structures)
    if faults:
        raise _failure(dataset, volume, expected, faults)
    return Verification(kind=expected.kind, sop_instance_uid=str(dataset.SOPInstanceUID), checks=tuple(checks))


def _failure(dataset: Dataset, volume: Volume, expected: _Expected, faults: list[str]) -> VerificationFailed:
    more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
    return VerificationFailed(
        f"the encoded {expected.kind} does not hold the label volume it was made from: "
        f"{'; '.join(faults[:MOST_FAULTS])}{more}",
        SOPInstanceUID=str(dataset.SOPInstanceUID),
        SeriesInstanceUID=volume.series_instance_uid,
    )


def _fault(check: StructureCheck, centroid_mm: float, *, exact: bool) -> str | None:
    """What is wrong with a structure, with the number; None if nothing is."""
    if not check.laterality_ok:
        return f"{check.name}: left and right do not agree"
    if check.differing and (exact or check.dice < SIMPLIFIED_DICE):
        return f"{check.name}: Dice {check.dice:.4f}, {check.differing} voxels differ"
    if check.lost_slices:
        return f"{check.name}: there on one side only on {len(check.lost_slices)} slices"
    if abs(check.volume_ratio - 1) > SIMPLIFIED_VOLUME:
        return f"{check.name}: volume ratio {check.volume_ratio:.4f}"
    if check.centroid_shift_mm > centroid_mm:
        return f"{check.name}: centroid moved by {check.centroid_shift_mm:.2f} mm"
    return None


def _series_faults(dataset: Dataset, volume: Volume) -> Iterator[str]:
    """Whether the object refers to the source series, to each of its images, and to nothing else."""
    series = list(dataset.get("ReferencedSeriesSequence", []))
    frames = {volume.frame_of_reference_uid}
    for frame in dataset.get("ReferencedFrameOfReferenceSequence", []):
        frames.add(str(frame.get("FrameOfReferenceUID", "")))
        for study in frame.get("RTReferencedStudySequence", []):
            series += study.get("RTReferencedSeriesSequence", [])
    frames |= {str(roi.get("ReferencedFrameOfReferenceUID", "")) for roi in dataset.get("StructureSetROISequence", [])}
    if len(frames) > 1:
        yield "an ROI lies in another frame of reference than the source"
    images = {
        str(image.get("ReferencedSOPInstanceUID", ""))
        for item in series
        for image in item.get("ReferencedInstanceSequence", item.get("ContourImageSequence", []))
    }
    if [str(item.get("SeriesInstanceUID", "")) for item in series] != [volume.series_instance_uid]:
        yield "the object does not refer to the source series"
    if images != {source.sop_instance_uid for source in volume.sources}:
        yield "the images that the object refers to are not the source's"


def _naming_faults(expected: _Expected, decoded: DecodedObject) -> Iterable[str]:
    for label, name in decoded.names.items():
        if label not in expected.names:
            yield f"{name} came back though it has no voxel"
        elif name != expected.names[label]:
            yield f"{expected.names[label]} is called {name}"
