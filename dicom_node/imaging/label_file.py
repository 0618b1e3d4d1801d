"""Label maps, masks and probabilities of other tools as files (NIfTI, NRRD), in the patient space of a series."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from dicom_node.durable_file import write_durably
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.imaging.image_file import LPS_FROM_RAS, FileSegment, ImageFile, nrrd_header, read_image_file
from dicom_node.imaging.label_volume import LabelVolume

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Probabilities = npt.NDArray[np.float32]
Array = TypeVar("Array", bound=npt.NDArray[Any])

GRID_TOLERANCE = 0.05
"""How far, in voxels, a file's voxel centre may lie off the series' and still be the same voxel."""
PROBABILITY_TOLERANCE = 1e-4
"""How far beyond 0 and 1 rounding may take a probability."""
MAX_LABEL = 65535
INSIDE = 0.5
"""Least probability of what is inside a structure."""
_NO_STEP = 1e-6
_BORDER = 1e-3
"""Rounding, in voxels, by which a centre may lie beyond the border of the series and still be inside."""


@dataclass(frozen=True)
class LabelFile:
    """A label map read onto the planes of a series.

    Attributes:
        labels: (k, j, i) on the series' grid; 0 is background, and whatever lies outside the file.
        resampled: Whether the file's grid is another one, so that labels were taken from the nearest voxel. A file that
            holds a part of the series' own grid is not resampled.
        overlays: Like ``labels``, for what overlaps them: further layers of a ``.seg.nrrd``.
        names: What the file itself calls its labels (``.seg.nrrd``); empty for others.
        outside: How many of the file's voxels of each label have their centre outside of the series, so that they are
            lost; labels without any are not named.
    """

    labels: Labels
    resampled: bool
    overlays: tuple[Labels, ...] = ()
    names: dict[int, str] = field(default_factory=dict)
    outside: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskFile:
    """A mask read onto the planes of a series.

    Attributes:
        mask: (k, j, i) where the file is not zero.
        resampled: As for :class:`LabelFile`.
        outside: How many voxels of the file's mask have their centre outside of the series.
    """

    mask: npt.NDArray[np.bool_]
    resampled: bool
    outside: int = 0


@dataclass(frozen=True)
class ProbabilityFile:
    """How probable one structure is at each voxel of a series.

    Attributes:
        probability: (k, j, i) from 0 to 1.
        resampled: Whether the file's grid is another one, so that values were interpolated.
        outside: How many of the file's voxels with a probability of one half or more have their centre outside of the
            series.
    """

    probability: Probabilities
    resampled: bool
    outside: int = 0


def read_label_file(path: Path, geometry: Geometry) -> LabelFile:
    """Read a label map onto the slices of a series.

    The file may store its axes in any order and direction. In a ``.seg.nrrd`` two layers may use the same number; the
    later segment then gets the lowest free one (see ``names``).

    Args:
        path: NIfTI or NRRD with whole numbers from 0 to 65535.
        geometry: Planes of the series.

    Raises:
        InputRefused: The file is no label map, says nothing of its place, or does not meet the series.
    """
    image = read_image_file(path)
    maps = [_whole_numbers(values, path) for values in image.layers]
    maps, names = _with_own_labels(maps, image.segments, path)
    grid = _FileGrid(image, geometry, path)
    first, *others = [grid.nearest(values) for values in maps]
    outside: Counter[int] = Counter()
    for values in maps:
        outside.update(grid.outside(values))
    return LabelFile(first, not grid.is_the_series, tuple(others), names, dict(sorted(outside.items())))


def read_mask_file(path: Path, geometry: Geometry) -> MaskFile:
    """Read one structure's mask: any voxel that is not zero.

    Raises:
        InputRefused: As for :func:`read_label_file`; also for values that are no numbers (NaN).
    """
    image = read_image_file(path)
    if len(image.layers) > 1:
        raise InputRefused(f"{path.name}: holds several layers; expected the mask of one structure")
    values = image.layers[0]
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise InputRefused(f"{path.name}: has values that are no numbers (NaN); expected a mask")
    grid = _FileGrid(image, geometry, path)
    mask = values != 0
    return MaskFile(grid.nearest(mask), not grid.is_the_series, grid.outside(mask).get(1, 0))


def read_probability_file(path: Path, geometry: Geometry) -> ProbabilityFile:
    """Read how probable one structure is at each voxel.

    Where the file's grid is the series' own (or a part of it) values are copied, else interpolated between the eight
    nearest voxels. Outside of the file they are 0.

    Args:
        path: NIfTI or NRRD with fractions from 0 to 1.
        geometry: Planes of the series.

    Raises:
        InputRefused: The file is no map of probabilities, says nothing of its place, or does not meet the series.
    """
    image = read_image_file(path)
    if len(image.layers) > 1:
        raise InputRefused(f"{path.name}: holds several layers; expected the probability of one structure")
    values = image.layers[0]
    if values.dtype.kind != "f":
        raise InputRefused(
            f"{path.name}: has {values.dtype} values; expected fractions from 0 to 1 (give a mask as mask)"
        )
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= -PROBABILITY_TOLERANCE and high <= 1 + PROBABILITY_TOLERANCE):
        raise InputRefused(f"{path.name}: values go from {low:g} to {high:g}; expected probabilities from 0 to 1")
    grid = _FileGrid(image, geometry, path)
    values = np.clip(values, 0, 1).astype(np.float32)
    probability = grid.nearest(values) if grid.is_the_series else grid.interpolated(values)
    return ProbabilityFile(probability, not grid.is_the_series, grid.outside(values >= INSIDE).get(1, 0))


def write_label_file(path: Path, labels: Labels, geometry: Geometry) -> None:
    """Write labels with the series' affine, axes (i, j, k) in file order.

    A gantry tilt is kept: the axes are sheared then, which NRRD and NIfTI's sform can say and qform cannot (its code is
    0).

    Args:
        path: ``.nii`` or ``.nii.gz`` (NIfTI-1), or ``.nrrd``.
        labels: (k, j, i).
        geometry: Planes of the series.

    Raises:
        InputRefused: The slices are unevenly spaced, which one affine cannot say.
        StorageFull: The disk has no room.
    """
    _require_even_spacing(geometry)
    affine = geometry.affine[:, [2, 1, 0, 3]]
    if path.name.endswith(".nrrd"):
        write_durably(path, _nrrd(affine, labels.transpose(2, 1, 0), {}))
        return
    ras = LPS_FROM_RAS @ affine
    image: Any = nib.Nifti1Image(np.ascontiguousarray(labels.transpose(2, 1, 0)), ras)  # type: ignore[no-untyped-call]
    image.set_sform(ras, code=1)
    if geometry.is_tilted:
        image.set_qform(None, code=0)
    else:
        image.set_qform(ras, code=1)
    image.header.set_xyzt_units("mm")
    encoded = image.to_bytes()
    write_durably(path, [_compressed(encoded) if path.suffix == ".gz" else encoded])


def write_segment_file(path: Path, label_volume: LabelVolume) -> None:
    """Write a label volume as 3D Slicer's segmentation: names, colours and codes, overlays as layers.

    Args:
        path: ``.seg.nrrd``.
        label_volume: What to write; structures without a voxel too.

    Raises:
        InputRefused: The slices are unevenly spaced, which one affine cannot say.
        StorageFull: The disk has no room.
    """
    _require_even_spacing(label_volume.geometry)
    layers = [layer.labels.transpose(2, 1, 0) for layer in label_volume.layers]
    values: npt.NDArray[Any] = np.stack(layers) if len(layers) > 1 else layers[0]  # (layer, x, y, z): layers first
    fields = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    sizes = layers[0].shape
    numbers = count()
    for place, layer in enumerate(label_volume.layers):
        for label, structure in sorted(layer.structures.items()):
            prefix = f"Segment{next(numbers)}_"
            codes = "~".join(
                f"{code.scheme}^{code.value}^{code.meaning}" for code in (structure.category, structure.type)
            )
            side = structure.laterality
            modifier = f"{side.scheme}^{side.value}^{side.meaning}" if side else "^^"
            fields |= {
                f"{prefix}ID": f"Segment_{label}",
                f"{prefix}Name": structure.name,
                f"{prefix}Color": " ".join(f"{channel / 255:.6f}" for channel in structure.color),
                f"{prefix}Extent": " ".join(f"0 {size - 1}" for size in sizes),
                f"{prefix}LabelValue": str(label),
                f"{prefix}Layer": str(place),
                f"{prefix}Tags": f"TerminologyEntry:DICOM~{codes}~{modifier}~~^^~^^|",
            }
    write_durably(path, _nrrd(label_volume.geometry.affine[:, [2, 1, 0, 3]], values, fields))


class _FileGrid:
    """How the voxels of a file lie to those of a series.

    Attributes:
        is_the_series: Whether every voxel of the series that lies in the file is one of the file's, and neighbours are
            neighbours.
    """

    def __init__(self, image: ImageFile, geometry: Geometry, path: Path) -> None:
        """Refuses a file that does not meet the series."""
        to_file = np.linalg.inv(image.affine)
        self._affine, self._geometry = image.affine, geometry
        self._shape = image.layers[0].shape
        self._size = geometry.rows, geometry.columns
        self._corners = geometry.origins @ to_file[:3, :3].T + to_file[:3, 3]
        self._steps = (
            to_file[:3, :3] @ geometry.column_direction * geometry.row_spacing,
            to_file[:3, :3] @ geometry.row_direction * geometry.column_spacing,
        )
        worst, hit = 0.0, False
        for corner in self._corners:
            exact = self._exact(corner)
            worst = max(worst, *(float(np.abs(axis - np.rint(axis)).max()) for axis in exact))
            hit = hit or bool(self._inside(exact).any())
        if not hit:
            raise InputRefused(
                f"{path.name}: none of its voxels lies in the series; expected a label map in the patient space of the "
                "series (check the affine, and that the right series was named)"
            )
        steps = np.rint([*self._steps, *np.diff(self._corners, axis=0)])
        self.is_the_series = worst <= GRID_TOLERANCE and bool((np.abs(steps).sum(axis=1) == 1).all())

    def nearest(self, values: Array) -> Array:
        """(k, j, i) from the nearest voxels of the file's (x, y, z) values, 0 outside."""
        planes = np.zeros((len(self._corners), *self._size), dtype=values.dtype)
        for plane, corner in zip(planes, self._corners, strict=True):
            exact = self._exact(corner)
            index = [
                np.clip(np.rint(axis), 0, size - 1).astype(np.intp)
                for axis, size in zip(exact, self._shape, strict=True)
            ]
            plane[...] = values[index[0], index[1], index[2]]
            plane[~self._inside(exact)] = 0
        return cast("Array", planes)

    def interpolated(self, values: Probabilities) -> Probabilities:
        """(k, j, i), trilinear, 0 outside; the outermost half voxel has its voxel's value."""
        planes = np.zeros((len(self._corners), *self._size), dtype=np.float32)
        for plane, corner in zip(planes, self._corners, strict=True):
            exact = self._exact(corner)
            where = np.stack([np.broadcast_to(axis, self._size) for axis in exact])
            map_coordinates(values, where, output=plane, order=1, mode="nearest")
            plane[~self._inside(exact)] = 0
        return planes

    def outside(self, values: npt.NDArray[Any]) -> dict[int, int]:
        """How many of the file's (x, y, z) voxels other than 0 have their centre outside of the series, by value."""
        counts = np.zeros(MAX_LABEL + 1, dtype=np.int64)
        corners = [np.array([0, size - 1], dtype=np.float64) for size in self._shape]
        if not self._outside_series(*np.ix_(*corners)).any():
            return {}  # the series is convex: no voxel between corners that are inside is outside
        x, y = np.ogrid[: self._shape[0], : self._shape[1]]
        for z in range(self._shape[2]):
            lost = values[:, :, z][self._outside_series(x, y, np.array(z))]
            found = np.bincount(lost)
            counts[: len(found)] += found
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts) if value}

    def _outside_series(self, *index: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which file indices (x, y, z), to be broadcast, lie outside of every voxel of the series."""
        outside = np.zeros(np.broadcast_shapes(*(axis.shape for axis in index)), dtype=bool)
        for gradient, low, high in _limits(self._geometry):
            place = np.array(gradient @ self._affine[:3, 3])
            for axis, step, size in zip(index, gradient @ self._affine[:3, :3], self._shape, strict=True):
                if abs(step) * size > _NO_STEP:  # as in _exact: what does not change is not computed for each voxel
                    place = place + step * axis
            outside |= (place < low) | (place > high)
        return outside

    def _exact(self, corner: FloatArray) -> list[FloatArray]:
        """File index along each file axis, (rows or 1, columns or 1)."""
        rows, columns = np.arange(self._size[0])[:, None], np.arange(self._size[1])[None, :]
        index = []
        for axis in range(3):
            exact = np.full((1, 1), corner[axis])
            # a step that is nothing leaves the index one row or column wide: grids that agree are copied, not computed
            for place, step in zip((rows, columns), (self._steps[0][axis], self._steps[1][axis]), strict=True):
                if abs(step) * place.size > _NO_STEP:
                    exact = exact + place * step
            index.append(exact)
        return index

    def _inside(self, exact: list[FloatArray]) -> npt.NDArray[np.bool_]:
        """(rows, columns) which centres lie in a voxel of the file."""
        inside = np.ones(self._size, dtype=bool)
        for axis, size in zip(exact, self._shape, strict=True):
            nearest = np.rint(axis)
            inside &= (nearest >= 0) & (nearest < size)
        return inside


def _limits(geometry: Geometry) -> list[tuple[FloatArray, float, float]]:
    """The voxels of a series as a parallelepiped: for each pair of faces (3,) g, least and largest g @ patient_mm.

    Slices end half a spacing beyond the first and the last origin; with a gantry tilt rows and columns move along.
    """
    first, distances, normal = geometry.origins[0], geometry.distances, geometry.normal
    ends = geometry.slice_spacings[[0, -1]] if len(distances) > 1 else np.full(2, geometry.slice_thickness)
    along = (geometry.origins[-1] - first) / (distances[-1] - distances[0]) if len(distances) > 1 else normal
    reach = (0.5 + _BORDER) * ends
    limits = [(normal, float(distances[0] - reach[0]), float(distances[-1] + reach[1]))]
    sides = (
        (geometry.column_direction, geometry.row_spacing, geometry.rows),
        (geometry.row_direction, geometry.column_spacing, geometry.columns),
    )
    for direction, spacing, size in sides:
        gradient = (direction - (along @ direction) * normal) / spacing
        start = float(gradient @ first)
        limits.append((gradient, start - 0.5 - _BORDER, start + size - 0.5 + _BORDER))
    return limits


def _whole_numbers(values: npt.NDArray[Any], path: Path) -> Labels:
    """Labels as unsigned integers; floating-point files are taken where every value is whole."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= MAX_LABEL):
        raise InputRefused(f"{path.name}: labels go from {low:g} to {high:g}; expected whole numbers from 0 to 65535")
    labels: Labels = values.astype(np.uint8) if high < 256 else values.astype(np.uint16)
    if values.dtype.kind == "f" and not np.array_equal(labels, values):
        raise InputRefused(f"{path.name}: has values that are no whole numbers; expected labels, not an image")
    return labels


def _with_own_labels(
    maps: list[Labels], segments: tuple[FileSegment, ...], path: Path
) -> tuple[list[Labels], dict[int, str]]:
    """Layers in which no number stands for two things, and the names of the numbers."""
    names: dict[tuple[int, int], str] = {}
    for segment in segments:
        layer = segment.layer if len(maps) > 1 else 0
        names[layer, segment.value] = segment.name
    if len(maps) == 1:
        return maps, {value: name for (_, value), name in names.items() if name}
    present = [(layer, int(value)) for layer, values in enumerate(maps) for value in np.unique(values) if value]
    labels: dict[tuple[int, int], int] = {}
    everything = list(dict.fromkeys([*names, *present]))
    used = {value for _, value in everything}
    free = (number for number in count(1) if number not in used)
    for layer, value in everything:
        taken = value in labels.values()
        labels[layer, value] = next(free) if taken else value
    if max(labels.values(), default=0) > MAX_LABEL:
        raise InputRefused(f"{path.name}: has more than {MAX_LABEL} labels")
    renumbered = [_renumbered(values, labels, layer) for layer, values in enumerate(maps)]
    return renumbered, {labels[key]: name for key, name in names.items() if name}


def _renumbered(values: Labels, labels: Mapping[tuple[int, int], int], layer: int) -> Labels:
    table = np.arange(int(values.max(initial=0)) + 1)
    for (place, value), label in labels.items():
        if place == layer and value < table.size:
            table[value] = label
    lookup: Labels = table.astype(np.uint8) if table.max() < 256 else table.astype(np.uint16)
    return lookup[values]


def _require_even_spacing(geometry: Geometry) -> None:
    if not geometry.is_evenly_spaced:
        raise InputRefused(
            f"the slices are {geometry.slice_spacings.min():.2f} to {geometry.slice_spacings.max():.2f} mm apart; a "
            "label file has one spacing only and would put labels in the wrong place"
        )


def _nrrd(affine: FloatArray, values: npt.NDArray[Any], fields: Mapping[str, str]) -> list[bytes]:
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    header = nrrd_header(affine, fields, str(values.dtype), values.shape)
    return [header, _compressed(little.tobytes(order="F"))]


def _compressed(encoded: bytes) -> bytes:
    return gzip.compress(encoded, compresslevel=6, mtime=0)
