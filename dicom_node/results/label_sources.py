"""Anyone's label files on the slices of a series: one label map, one file a structure, or both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_node.anatomy import Structure
from dicom_node.errors import UsageError
from dicom_node.imaging.certainty import CERTAIN, Certainty
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_file import INSIDE, Labels, read_label_file, read_mask_file, read_probability_file
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.results.structure_table import StructureTable

SURE = 129
"""Least certainty of a voxel's label: one half lies between 127 and 128, and no border may run through a centre."""


@dataclass(frozen=True)
class GatheredLabels:
    """Labels of a series, and what a person should know about them.

    Attributes:
        label_volume: Structures of the table that have a voxel or not; overlapping ones in overlays.
        notes: Another grid, labels left out, voxels outside of the series, structures without a voxel.
    """

    label_volume: LabelVolume
    notes: tuple[str, ...]


def gather_labels(geometry: Geometry, label_map: Path | None, table: StructureTable) -> GatheredLabels:
    """Read every file that a structure table speaks of.

    Args:
        geometry: Planes of the series.
        label_map: The file with the structures that name none of their own; None where all do.
        table: What the labels mean, and where they lie.

    Raises:
        UsageError: A file is missing, or there is no label map for structures without a file.
        InputRefused: A file cannot be read, or does not meet the series.
    """
    gathering = _Gathering(geometry, wide=max(table.structures) > 255)
    mapped = {label: structure for label, structure in table.structures.items() if label not in table.files}
    if mapped:
        if label_map is None:
            names = ", ".join(structure.name for structure in mapped.values())
            raise UsageError(f"no label map was given, and these structures name no file of their own: {names}")
        gathering.add_map(_existing(label_map), mapped)
    elif label_map is not None:
        raise UsageError(f"{label_map.name}: every structure names a file of its own, so no label map is read")
    for label, file in table.files.items():
        if file.kind == "mask":
            gathering.add_mask(_existing(file.path), label, table.structures[label])
        else:
            gathering.add_probability(_existing(file.path), label, table.structures[label])
    return gathering.finish()


@dataclass
class _Layer:
    """A label volume in the making; ``winner`` and ``runner_up`` only where probabilities are known."""

    labels: Labels
    structures: dict[int, Structure] = field(default_factory=dict)
    winner: npt.NDArray[np.uint8] | None = None
    runner_up: npt.NDArray[np.uint8] | None = None

    def takes(self, mask: npt.NDArray[np.bool_]) -> bool:
        return not any(plane[wanted].any() for plane, wanted in zip(self.labels, mask, strict=True))


class _Gathering:
    def __init__(self, geometry: Geometry, *, wide: bool) -> None:
        self._geometry = geometry
        self._wide = wide
        self._layers: list[_Layer] = []
        self._notes: list[str] = []
        self._resampled: list[str] = []
        self._lost: list[str] = []

    def add_map(self, path: Path, structures: dict[int, Structure]) -> None:
        """Each of the file's layers; a structure without a voxel stays with the first."""
        found = read_label_file(path, self._geometry)
        if found.resampled:
            self._resampled.append(path.name)
        for label, voxels in found.outside.items():
            if label in structures:
                self._note_lost(structures[label], voxels)
        unexplained: list[int] = []
        left_over = dict(structures)
        layers = []
        for labels in (found.labels, *found.overlays):
            used = _labels_in(labels)
            unexplained += [label for label in used if label not in structures]
            labels[np.isin(labels, [label for label in used if label not in structures])] = 0
            layers.append(
                _Layer(
                    self._typed(labels),
                    {label: left_over.pop(label) for label in used if label in left_over},
                )
            )
        layers[0].structures |= left_over
        self._layers += layers
        if unexplained:
            listed = ", ".join(map(str, sorted(set(unexplained))))
            self._notes.append(f"labels without a [[structure]] were left out: {listed}")

    def add_mask(self, path: Path, label: int, structure: Structure) -> None:
        found = read_mask_file(path, self._geometry)
        if found.resampled:
            self._resampled.append(path.name)
        self._note_lost(structure, found.outside)
        layer = next((layer for layer in self._layers if layer.winner is None and layer.takes(found.mask)), None)
        layer = layer or self._new_layer()
        layer.labels[found.mask] = label
        layer.structures[label] = structure

    def add_probability(self, path: Path, label: int, structure: Structure) -> None:
        """Inside where at least one half. What lies beside it in the same layer is its competitor there."""
        if self._wide:
            raise UsageError("probabilities need labels up to 255; give the structures smaller labels")
        found = read_probability_file(path, self._geometry)
        probability = found.probability
        if found.resampled:
            self._notes.append(f"another grid than the series', probabilities were interpolated: {path.name}")
        self._note_lost(structure, found.outside)
        scaled = np.rint(CERTAIN * np.clip(probability, 0, 1)).astype(np.uint8)
        mask = probability >= INSIDE
        layer = next((layer for layer in self._layers if layer.winner is not None and layer.takes(mask)), None)
        layer = layer or self._new_layer(certain=True)
        assert layer.winner is not None
        assert layer.runner_up is not None
        other = np.where(mask, scaled, CERTAIN - scaled).clip(SURE, CERTAIN)
        nearer = ~mask & (layer.labels == 0) & (other < layer.winner)
        beside = ~mask & (layer.labels > 0) & (layer.runner_up == 0) & (scaled > 0)
        layer.winner[mask | nearer] = other[mask | nearer]
        layer.runner_up[nearer | beside] = label
        layer.labels[mask] = label
        layer.structures[label] = structure

    def finish(self) -> GatheredLabels:
        notes = [*self._notes, *self._lost]
        if self._resampled:
            names = ", ".join(self._resampled)
            notes.insert(0, f"another grid than the series', labels were taken from the nearest voxel: {names}")
        volumes = [
            LabelVolume(
                layer.labels,
                self._geometry,
                layer.structures,
                None if layer.winner is None or layer.runner_up is None else Certainty(layer.winner, layer.runner_up),
            )
            for layer in self._layers
        ]
        label_volume = replace(volumes[0], overlays=tuple(volumes[1:]))
        present = {label for label, _ in label_volume.present()}
        empty = [
            structure.name
            for layer in label_volume.layers
            for label, structure in sorted(layer.structures.items())
            if label not in present
        ]
        if empty:
            notes.append(f"structures without a voxel were left out: {', '.join(empty)}")
        return GatheredLabels(label_volume, tuple(notes))

    def _note_lost(self, structure: Structure, voxels: int) -> None:
        if voxels == 1:
            self._lost.append(f"1 voxel of {structure.name} lies outside the series and was left out")
        elif voxels:
            self._lost.append(f"{voxels} voxels of {structure.name} lie outside the series and were left out")

    def _typed(self, labels: Labels) -> Labels:
        return labels.astype(np.uint16, copy=False) if self._wide else labels.astype(np.uint8, copy=False)

    def _new_layer(self, *, certain: bool = False) -> _Layer:
        shape = self._geometry.shape
        layer = _Layer(self._typed(np.zeros(shape, dtype=np.uint8)))
        if certain:
            layer.winner, layer.runner_up = np.full(shape, CERTAIN, np.uint8), np.zeros(shape, np.uint8)
        self._layers.append(layer)
        return layer


def _labels_in(labels: Labels) -> list[int]:
    """Every label but 0 that has a voxel; slice by slice, because counting makes 64-bit copies."""
    counts = np.zeros(65536, dtype=np.int64)
    for plane in labels:
        counts += np.bincount(plane.ravel(), minlength=len(counts))
    return [int(label) for label in np.flatnonzero(counts) if label]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected a label file")
    return path
