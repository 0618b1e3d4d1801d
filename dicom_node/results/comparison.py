"""How the structures of an encoded object, decoded again, compare with the label volume they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_node.anatomy import Structure
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.results.decoded import DecodedMask, DecodedObject

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StructureCheck:
    """How one structure came back.

    Attributes:
        label: Its label.
        name: Its name.
        dice: Dice of decoded and original voxels.
        differing: Voxels that are in one of both only.
        volume_ratio: Decoded volume over original volume.
        centroid_shift_mm: Distance of the centroids; infinite where nothing came back.
        laterality_ok: Whether the coded side is the structure's own, and left and right of a pair lie as they did.
        lost_slices: Slices that hold the structure on one side only.
    """

    label: int
    name: str
    dice: float
    differing: int
    volume_ratio: float
    centroid_shift_mm: float
    laterality_ok: bool
    lost_slices: tuple[int, ...] = ()


def compare(original: LabelVolume, expected: Mapping[int, Structure], decoded: DecodedObject) -> list[StructureCheck]:
    """How each expected structure came back, by label. Reads the decoded masks once, slice by slice.

    Args:
        original: What the object was made from, with its overlays.
        expected: The structures that it should hold.
        decoded: What it holds.

    Raises:
        InputRefused: A mask cannot be read, or does not lie on the series.
    """
    ours, theirs, common = _original(original, expected), _Gathered(original.geometry), dict.fromkeys(expected, 0)
    seen: set[tuple[int, int]] = set()
    for mask in decoded.masks():
        if (mask.label, mask.k) in seen:  # voxels that come twice could make up for others that are missing
            raise InputRefused(f"slice {mask.k + 1} of label {mask.label} is there twice")
        seen.add((mask.label, mask.k))
        theirs.add(mask)
        if mask.label in expected:
            labels = original.layer_of(mask.label).labels[mask.k, mask.rows, mask.columns]
            common[mask.label] += int(np.count_nonzero(mask.mask & (labels == mask.label)))
    sides = _Sides(expected, ours, theirs, decoded)
    return [
        StructureCheck(
            label=label,
            name=structure.name,
            dice=_dice(ours.voxels(label), theirs.voxels(label), common[label]),
            differing=ours.voxels(label) + theirs.voxels(label) - 2 * common[label],
            volume_ratio=theirs.volume(label) / ours.volume(label),
            centroid_shift_mm=_distance(ours.centroid(label), theirs.centroid(label)),
            laterality_ok=sides.agree(label),
            lost_slices=tuple(sorted(ours.slices(label) ^ theirs.slices(label))),
        )
        for label, structure in expected.items()
    ]


class _Gathered:
    """Voxels, volumes and centroids of structures on one geometry, gathered mask by mask."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._voxel_mm3 = geometry.voxel_volumes()
        self._counts: dict[int, Counts] = {}
        self._sums: dict[int, FloatArray] = {}

    def add(self, mask: DecodedMask) -> None:
        """Count a mask; of one structure and slice it comes once."""
        geometry = self._geometry
        counts = self._counts.setdefault(mask.label, np.zeros(geometry.shape[0], dtype=np.int64))
        sums = self._sums.setdefault(mask.label, np.zeros(3))
        in_rows, in_columns = np.count_nonzero(mask.mask, axis=1), np.count_nonzero(mask.mask, axis=0)
        voxels = int(in_rows.sum())
        row = float(in_rows @ np.arange(mask.rows.start, mask.rows.start + len(in_rows))) * geometry.row_spacing
        column = float(in_columns @ np.arange(mask.columns.start, mask.columns.start + len(in_columns)))
        column *= geometry.column_spacing
        counts[mask.k] += voxels
        sums += voxels * geometry.origins[mask.k]
        sums += row * geometry.column_direction + column * geometry.row_direction

    def voxels(self, label: int) -> int:
        return int(self._of(label).sum())

    def volume(self, label: int) -> float:
        """mm3."""
        return float(self._of(label) @ self._voxel_mm3)

    def slices(self, label: int) -> set[int]:
        return set(np.flatnonzero(self._of(label)).tolist())

    def centroid(self, label: int) -> FloatArray | None:
        """(3,) patient_mm; None without a voxel."""
        voxels = self.voxels(label)
        return self._sums[label] / voxels if voxels else None

    def _of(self, label: int) -> Counts:
        return self._counts.get(label, np.zeros(self._geometry.shape[0], dtype=np.int64))


class _Sides:
    """Left and right: as coded, and as the structures of a pair lie to each other."""

    def __init__(
        self, expected: Mapping[int, Structure], ours: _Gathered, theirs: _Gathered, decoded: DecodedObject
    ) -> None:
        self._expected = expected
        self._ours, self._theirs = ours, theirs
        self._coded = decoded.lateralities
        self._labels = {structure.name: label for label, structure in expected.items()}

    def agree(self, label: int) -> bool:
        structure = self._expected[label]
        own_side = structure.laterality.value if structure.laterality else None
        return self._coded.get(label) == own_side and self._pair_lies_as_it_did(label)

    def _pair_lies_as_it_did(self, label: int) -> bool:
        name = self._expected[label].name
        partner = self._labels.get({"_L": name[:-2] + "_R", "_R": name[:-2] + "_L"}.get(name[-2:], ""))
        if partner is None:
            return True
        ours, theirs = (_is_left(side, label, partner) for side in (self._ours, self._theirs))
        return None in (ours, theirs) or ours == theirs


def _is_left(side: _Gathered, label: int, partner: int) -> bool | None:
    """Whether a structure lies to the patient's left of its partner; None where one of them is not there."""
    one, other = side.centroid(label), side.centroid(partner)
    return None if one is None or other is None else bool(one[0] > other[0])


def _original(original: LabelVolume, expected: Iterable[int]) -> _Gathered:
    gathered = _Gathered(original.geometry)
    boxes = original.bounding_boxes()
    for label in expected:
        stack, rows, columns = boxes[label]
        labels = original.layer_of(label).labels
        for k in range(stack.start, stack.stop):
            gathered.add(DecodedMask(label, k, rows, columns, labels[k, rows, columns] == label))
    return gathered


def _dice(ours: int, theirs: int, common: int) -> float:
    return 2 * common / (ours + theirs) if ours + theirs else 0.0


def _distance(one: FloatArray | None, other: FloatArray | None) -> float:
    return float("inf") if one is None or other is None else float(np.linalg.norm(one - other))
