"""Whether a label volume can be anatomy: what its volumes, pieces, places and sides say before anybody looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_node.anatomy import Structure
from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.imaging.label_volume import LabelVolume

Severity = Literal["note", "warning", "hold"]

SPECK_ML = 0.1
"""Pieces below this volume are not counted."""
SPECK_SHARE = 0.01
"""Pieces below this share of their structure are not counted."""
SIDE_ML = 1.0
"""Structures below this volume do not tell where left and right are."""
BEYOND_ANATOMY = 3.0
"""Times the largest volume above which nothing anatomical is left."""
NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner are connected."""

_SEVERITIES: tuple[Severity, ...] = ("hold", "warning", "note")
_DIRECTIONS = (("right", "left"), ("anterior", "posterior"), ("inferior", "superior"))


@dataclass(frozen=True)
class Finding:
    """One thing about a structure that a person should know.

    Attributes:
        label: Which structure of the label volume.
        name: Its name.
        severity: "note" is for information, a "warning" asks for a look, with a "hold" nothing should leave.
        text: In plain words with the numbers, at most 200 characters, nothing about the patient.
    """

    label: int
    name: str
    severity: Severity
    text: str


@dataclass(frozen=True)
class _Shape:
    """What is measured of one structure.

    Attributes:
        label: Its label.
        structure: What it is.
        ml: Volume.
        centroid: (3,) patient_mm.
        edges: Where it touches the border of the images, in words.
        pieces: Connected pieces that are no specks; None where any number is right.
    """

    label: int
    structure: Structure
    ml: float
    centroid: FloatArray
    edges: tuple[str, ...]
    pieces: int | None

    def finding(self, severity: Severity, text: str) -> Finding:
        return Finding(self.label, self.structure.name, severity, text)


def examine(label_volume: LabelVolume) -> tuple[Finding, ...]:
    """What is remarkable about the structures of every layer, against the limits of anatomy.toml.

    Structures without voxels have no findings.

    Args:
        label_volume: On the slices of its source volume.

    Returns:
        Findings by label, the gravest first.
    """
    shapes = [shape for layer in label_volume.layers for shape in _measure(layer)]
    findings = [finding for shape in shapes for finding in _of_structure(shape)]
    findings += _of_sides(shapes)
    return tuple(sorted(findings, key=lambda finding: (finding.label, _SEVERITIES.index(finding.severity))))


def _measure(layer: LabelVolume) -> Iterator[_Shape]:
    """The shapes of one layer, each measured within its bounding box."""
    boxes = replace(layer, overlays=()).bounding_boxes()
    for label, box in boxes.items():
        structure = layer.structures[label]
        mask = layer.labels[box] == label
        ml, centroid = _volume_and_centroid(mask, box, layer.geometry)
        yield _Shape(
            label=label,
            structure=structure,
            ml=ml,
            centroid=centroid,
            edges=_edges(box, layer.geometry),
            pieces=None if structure.pieces is None else _pieces(mask, box, layer.geometry),
        )


def _volume_and_centroid(
    mask: npt.NDArray[np.bool_], box: tuple[slice, ...], geometry: Geometry
) -> tuple[float, FloatArray]:
    """Volume in ml and centroid in patient_mm: slice by slice, for each has its own extent and place."""
    rows, columns = mask.sum(axis=2), mask.sum(axis=1)
    counts = rows.sum(axis=1)
    filled = np.flatnonzero(counts)
    k = filled + box[0].start
    j = rows[filled] @ np.arange(box[1].start, box[1].stop) / counts[filled]
    i = columns[filled] @ np.arange(box[2].start, box[2].stop) / counts[filled]
    volumes = counts[filled] * geometry.voxel_volumes()[k]
    centres = geometry.index_to_patient(np.stack([k, j, i], axis=1).astype(np.float64))
    return float(volumes.sum() / 1000), np.asarray(volumes @ centres / volumes.sum())


def _pieces(mask: npt.NDArray[np.bool_], box: tuple[slice, ...], geometry: Geometry) -> int:
    """Connected pieces of at least SPECK_ML and SPECK_SHARE."""
    numbered, count = ndimage.label(mask, structure=NEIGHBOURS)
    if count == 1:
        return 1
    ml = np.zeros(count + 1)
    for plane, volume in zip(numbered, geometry.voxel_volumes()[box[0]], strict=True):
        ml += np.bincount(plane.ravel(), minlength=count + 1) * (volume / 1000)
    return int(np.count_nonzero(ml[1:] >= max(SPECK_ML, SPECK_SHARE * ml[1:].sum())))


def _edges(box: tuple[slice, ...], geometry: Geometry) -> tuple[str, ...]:
    """The borders of the images that a box touches, named by the patient's directions."""
    names = []
    axes = (geometry.normal, geometry.column_direction, geometry.row_direction)
    for part, size, axis, border in zip(box, geometry.shape, axes, ("end slice", "edge", "edge"), strict=True):
        if size == 1:
            names.append("two faces of the only slice")
            continue
        if part.start == 0:
            names.append(f"{_towards(-axis)} {border}")
        if part.stop == size:
            names.append(f"{_towards(axis)} {border}")
    return tuple(dict.fromkeys(names))  # an oblique series may have two edges towards one direction


def _towards(axis: FloatArray) -> str:
    """The patient's direction that is nearest to an axis (LPS)."""
    nearest = int(np.argmax(np.abs(axis)))
    return _DIRECTIONS[nearest][int(axis[nearest] > 0)]


def _of_structure(shape: _Shape) -> Iterator[Finding]:
    """What one structure says by itself."""
    yield from _of_volume(shape)
    expected = shape.structure.pieces
    if shape.pieces is not None and expected is not None and shape.pieces > expected:
        yield shape.finding("warning", f"Lies in {shape.pieces} separate pieces; at most {expected} expected.")
    if shape.edges and shape.structure.interpreted_type != "EXTERNAL":
        yield shape.finding("note", f"Partly in the field of view: reaches the {_listed(shape.edges)}.")


def _of_volume(shape: _Shape) -> Iterator[Finding]:
    if shape.structure.volume_ml is None:
        return
    low, high = shape.structure.volume_ml
    expected = f"expected in an adult: {_number(low)} to {_number(high)} ml"
    if shape.ml > BEYOND_ANATOMY * high:
        yield shape.finding("hold", f"Volume {_number(shape.ml)} ml is nothing anatomical; {expected}.")
    elif shape.ml > high:
        yield shape.finding("warning", f"Volume {_number(shape.ml)} ml is unusually large; {expected}.")
    elif shape.ml < low and not shape.edges:
        yield shape.finding("warning", f"Volume {_number(shape.ml)} ml is unusually small; {expected}.")


def _of_sides(shapes: list[_Shape]) -> Iterator[Finding]:
    """Left where right should be: pairs, and liver against spleen."""
    by_name = {shape.structure.name: shape for shape in shapes if shape.ml >= SIDE_ML}
    exchanged = [
        (shape, by_name[f"{name[:-2]}_R"])
        for name, shape in by_name.items()
        if name.endswith("_L") and f"{name[:-2]}_R" in by_name and not _is_left(shape, by_name[f"{name[:-2]}_R"])
    ]
    for pair in exchanged:
        text = f"Left and right are exchanged: {_relation(*pair)}."
        yield from (shape.finding("hold", text) for shape in pair)
    liver, spleen = by_name.get("Liver"), by_name.get("Spleen")
    if liver and spleen and not _is_left(spleen, liver):
        text = f"Situs: {_relation(spleen, liver)}."
        text += " With exchanged pairs: the whole is mirrored." if exchanged else " A rare variant, or mirrored."
        yield from (shape.finding("hold" if exchanged else "warning", text) for shape in (liver, spleen))


def _is_left(shape: _Shape, other: _Shape) -> bool:
    return bool(shape.centroid[0] > other.centroid[0])


def _relation(shape: _Shape, other: _Shape) -> str:
    distance = float(other.centroid[0] - shape.centroid[0])
    return (
        f"the centre of {shape.structure.name[:40]} lies {distance:.0f} mm to the right of {other.structure.name[:40]}"
    )


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _number(ml: float) -> str:
    """Three digits, no more than anybody reads."""
    return f"{ml:.0f}" if ml >= 100 or ml == 0 else f"{ml:.2g}" if ml < 1 else f"{ml:.3g}"
