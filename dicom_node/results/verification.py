"""Promise 4: a result is decoded again from its encoded bytes and compared with the label volume it was made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom_node.errors import VerificationFailed
from dicom_node.imaging.geometry import PLANE_TOLERANCE_MM, FloatArray
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.results.decoded import DecodedLabels
from dicom_node.results.dicom_seg import decode_seg
from dicom_node.results.object_file import Encoded, read_object
from dicom_node.results.rtstruct_decoding import decode_rtstruct

SEG_DICE = 1.0
"""A segmentation holds voxels: nothing less than all of them will do."""
CONTOUR_DICE = 0.99
"""Contours hold the same voxels up to the rounding of their coordinates."""
VOLUME_TOLERANCE = 0.02
CENTROID_TOLERANCE_MM = 0.5


@dataclass(frozen=True)
class StructureCheck:
    """How one structure came back.

    Attributes:
        label: Its label.
        name: Its name.
        dice: Dice of decoded and original voxels.
        volume_ratio: Decoded volume over original volume.
        centroid_shift_mm: Distance of the centroids; infinite where nothing came back.
        laterality_ok: Whether the coded side is the structure's own, and left and right of a pair lie as they did.
    """

    label: int
    name: str
    dice: float
    volume_ratio: float
    centroid_shift_mm: float
    laterality_ok: bool

    def fault(self, least_dice: float) -> str | None:
        """What is wrong, with the number; None if nothing is."""
        if not self.laterality_ok:
            return f"{self.name}: left and right do not agree"
        if self.dice < least_dice:
            return f"{self.name}: Dice {self.dice:.4f}, at least {least_dice} expected"
        if abs(self.volume_ratio - 1) > VOLUME_TOLERANCE:
            return f"{self.name}: volume ratio {self.volume_ratio:.4f}"
        if self.centroid_shift_mm > CENTROID_TOLERANCE_MM:
            return f"{self.name}: centroid moved by {self.centroid_shift_mm:.2f} mm"
        return None


@dataclass(frozen=True)
class Verification:
    """A result that passed.

    Attributes:
        kind: "SEG" or "RTSTRUCT".
        sop_instance_uid: The object that was checked.
        checks: One per structure with voxels, by label.
    """

    kind: str
    sop_instance_uid: str
    checks: tuple[StructureCheck, ...]

    @property
    def least_dice(self) -> float:
        """The worst structure's Dice."""
        return min(check.dice for check in self.checks)


def verify_seg(encoded: Encoded, label_volume: LabelVolume, volume: Volume) -> Verification:
    """Decode a Segmentation and compare it voxel by voxel.

    Args:
        encoded: The file, or its bytes.
        label_volume: What it was made from.
        volume: The source.

    Raises:
        VerificationFailed: With the numbers: a voxel differs, a side is coded wrongly, or patient, study or frame of
            reference are not the source's.
    """
    dataset = read_object(encoded)
    decoded = decode_seg(dataset, label_volume.geometry)
    return _verify("SEG", dataset, decoded, (label_volume, volume), SEG_DICE)


def verify_rtstruct(encoded: Encoded, label_volume: LabelVolume, volume: Volume) -> Verification:
    """Decode an RT Structure Set and compare it: Dice, volume, centroid, sides, and points on their planes.

    Args:
        encoded: The file, or its bytes.
        label_volume: What it was made from.
        volume: The source.

    Raises:
        VerificationFailed: With the numbers.
    """
    dataset = read_object(encoded)
    decoded = decode_rtstruct(dataset, label_volume.geometry)
    return _verify("RTSTRUCT", dataset, decoded, (label_volume, volume), CONTOUR_DICE)


def compare(original: LabelVolume, decoded: DecodedLabels) -> tuple[StructureCheck, ...]:
    """How each structure with voxels came back, by label."""
    counts = _Counts(original, decoded.label_volume)
    checks = []
    for label, structure in original.present():
        own_side = structure.laterality.meaning if structure.laterality else None
        in_place = counts.pairs_keep_sides(label, original)
        checks.append(
            StructureCheck(
                label=label,
                name=structure.name,
                dice=counts.dice(label),
                volume_ratio=counts.volume_ratio(label),
                centroid_shift_mm=counts.centroid_shift(label),
                laterality_ok=decoded.lateralities.get(label) == own_side and in_place,
            )
        )
    return tuple(checks)


def _verify(
    kind: str, dataset: Dataset, decoded: DecodedLabels, truth: tuple[LabelVolume, Volume], least_dice: float
) -> Verification:
    label_volume, volume = truth
    checks = compare(label_volume, decoded)
    faults = [fault for check in checks if (fault := check.fault(least_dice))]
    faults += _foreign_identity(dataset, volume)
    faults += _unexpected(label_volume, decoded)
    if decoded.overlaps:
        faults.append(f"{decoded.overlaps} voxels belong to more than one structure")
    if decoded.off_plane_mm > PLANE_TOLERANCE_MM:
        faults.append(f"a contour point lies {decoded.off_plane_mm:.3f} mm off its slice")
    if faults:
        raise VerificationFailed(
            f"the encoded {kind} does not hold the label volume it was made from: {'; '.join(faults)}",
            SOPInstanceUID=str(dataset.SOPInstanceUID),
            SeriesInstanceUID=volume.series_instance_uid,
        )
    return Verification(kind=kind, sop_instance_uid=str(dataset.SOPInstanceUID), checks=checks)


def _foreign_identity(dataset: Dataset, volume: Volume) -> Iterable[str]:
    expected = {
        "PatientID": volume.header.get("PatientID", ""),
        "StudyInstanceUID": volume.study_instance_uid,
        "FrameOfReferenceUID": volume.frame_of_reference_uid,
    }
    for keyword, value in expected.items():
        if str(dataset.get(keyword) or "") != str(value or ""):
            yield f"{keyword} is not the source's"
    if dataset.SeriesInstanceUID == volume.series_instance_uid:
        yield "the result would lie in the source's own series"


def _unexpected(label_volume: LabelVolume, decoded: DecodedLabels) -> Iterable[str]:
    expected = {label for label, _ in label_volume.present()}
    for label, structure in decoded.label_volume.present():
        if label not in expected:
            yield f"{structure.name} came back though it has no voxel"


class _Counts:
    """Voxels, volumes and centroids of two label volumes on one geometry, gathered slice by slice."""

    def __init__(self, first: LabelVolume, second: LabelVolume) -> None:
        size = 1 + max(int(first.labels.max(initial=0)), int(second.labels.max(initial=0)), *first.structures, 0)
        self._geometry = first.geometry
        self._common = np.zeros(size, dtype=np.int64)
        self._voxels = np.zeros((2, size), dtype=np.int64)
        self._volumes = np.zeros((2, size))
        self._sums = np.zeros((2, size, 3))
        for k, voxel_mm3 in enumerate(first.geometry.voxel_volumes()):
            planes = first.labels[k].ravel(), second.labels[k].ravel()
            used = np.flatnonzero(planes[0] | planes[1])
            labels = planes[0][used], planes[1][used]
            self._common += np.bincount(labels[0][labels[0] == labels[1]], minlength=size)
            for side in (0, 1):
                self._add(side, labels[side], used, k, float(voxel_mm3))

    def dice(self, label: int) -> float:
        total = int(self._voxels[:, label].sum())
        return float(2 * self._common[label] / total) if total else 0.0

    def volume_ratio(self, label: int) -> float:
        return float(self._volumes[1, label] / self._volumes[0, label])

    def centroid_shift(self, label: int) -> float:
        if not self._voxels[:, label].all():
            return float("inf")
        return float(np.linalg.norm(self._centroid(0, label) - self._centroid(1, label)))

    def pairs_keep_sides(self, label: int, original: LabelVolume) -> bool:
        """Whether this structure and its partner lie to each other's left and right as they did."""
        name = original.structures[label].name
        partner_name = {"_L": name[:-2] + "_R", "_R": name[:-2] + "_L"}.get(name[-2:])
        for partner, structure in original.structures.items():
            if structure.name == partner_name and self._voxels[:, [label, partner]].all():
                towards_left = [self._centroid(side, label)[0] - self._centroid(side, partner)[0] for side in (0, 1)]
                return bool(np.sign(towards_left[0]) == np.sign(towards_left[1]))
        return True

    def _add(
        self, side: int, labels: npt.NDArray[np.unsignedinteger], pixels: npt.NDArray[np.intp], k: int, mm3: float
    ) -> None:
        geometry, size = self._geometry, len(self._common)
        voxels = np.bincount(labels, minlength=size)
        row, column = pixels // geometry.columns, pixels % geometry.columns
        rows = np.bincount(labels, weights=row, minlength=size) * geometry.row_spacing
        columns = np.bincount(labels, weights=column, minlength=size) * geometry.column_spacing
        self._voxels[side] += voxels
        self._volumes[side] += voxels * mm3
        self._sums[side] += (
            np.outer(voxels, geometry.origins[k])
            + np.outer(rows, geometry.column_direction)
            + np.outer(columns, geometry.row_direction)
        )

    def _centroid(self, side: int, label: int) -> FloatArray:
        return np.asarray(self._sums[side, label] / self._voxels[side, label])
