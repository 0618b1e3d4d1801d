"""Label maps that images are rendered from, harmonised by structure name.

Every map becomes a `LabelMap`: an axis-aligned LPS grid (k head-wards, j towards posterior, i towards the patient's
left), the label of every voxel, its tissue and its distance outside the body core. Voxels whose label a source leaves
open are `IGNORED` or
`UNSETTLED`, never background.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nrrd
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay, QhullError
from torch import Tensor

from models.tissues import STRUCTURES, Tissue, structure_label

IntVolume = npt.NDArray[np.int16]
"""Source labels (k, j, i)."""
Mask = npt.NDArray[np.bool_]
"""Voxels (k, j, i)."""

SPL_ABDOMINAL_SPACING = (3.0, 1.41, 1.41)
"""(k, j, i) in mm. At the file's 1.5 x 0.94 x 0.94 a kidney has 52 ml and lumbar vertebrae stand 18 mm apart."""
FAT_MARGIN_MM = 60.0
"""Empty border of every map in the axial plane, in which the renderer grows subcutaneous fat."""


@dataclass(frozen=True)
class PlacedMap:
    """Flattened tissue, label and outside of a map, and its own CT (1, 1, k, j, i) where it has one, on one device."""

    tissue: Tensor
    label: Tensor
    outside: Tensor
    image: Tensor | None


@dataclass(frozen=True)
class LabelMap:
    """One harmonised map.

    `label` (k, j, i) int8: 0 background, 1..N the anatomy's structures, `IGNORED`, `UNSETTLED`. `tissue` (k, j, i)
    uint8, values of
    `Tissue`, outside the body core AIR. `outside` (k, j, i) uint8: mm outside the core (0 inside). `unsettled`: the
    structures that an UNSETTLED voxel may belong to. `spacing`: edge of the cubic voxels in mm.
    """

    name: str
    anatomy: str
    licence: str
    spacing: float
    label: npt.NDArray[np.int8]
    tissue: npt.NDArray[np.uint8]
    outside: npt.NDArray[np.uint8]
    unsettled: frozenset[str] = frozenset()
    centres: Mapping[str, tuple[npt.NDArray[np.float64], float]] = field(default_factory=dict)
    """Structure -> centre (k, j, i) in voxels and radius in voxels of the sphere of its volume."""

    image: npt.NDArray[np.int16] | None = None
    """The CT (k, j, i) in HU that the map was drawn on, where that is at hand."""
    _placed: dict[str, PlacedMap] = field(default_factory=dict, repr=False, compare=False)

    def on(self, device: torch.device) -> PlacedMap:
        """The map's volumes, flattened, as tensors on a device; kept for the next call."""
        if str(device) not in self._placed:
            tissue, label, outside = (
                torch.from_numpy(volume).flatten().to(device) for volume in (self.tissue, self.label, self.outside)
            )
            image = None if self.image is None else torch.from_numpy(self.image)[None, None].float().to(device)
            self._placed[str(device)] = PlacedMap(tissue, label, outside, image)
        return self._placed[str(device)]

    def __post_init__(self) -> None:
        """Fill in the centres."""
        if not self.centres:
            object.__setattr__(self, "centres", _centres(self.label, self.anatomy))


def _centres(label: npt.NDArray[np.int8], anatomy: str) -> dict[str, tuple[npt.NDArray[np.float64], float]]:
    centres: dict[str, tuple[npt.NDArray[np.float64], float]] = {}
    for name in STRUCTURES[anatomy]:
        voxels = np.argwhere(label == structure_label(anatomy, name))
        if len(voxels) > 20:
            centres[name] = (voxels.mean(0), float((len(voxels) * 0.75 / np.pi) ** (1 / 3)))
    return centres


def read_colour_table(path: Path) -> dict[str, int]:
    """Name -> label of a 3D Slicer colour table."""
    rows = [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {row[1]: int(row[0]) for row in rows}


def resample_nearest(volume: npt.NDArray[np.generic], spacing: tuple[float, float, float], to: float) -> IntVolume:
    """`volume` (k, j, i) of `spacing` on a cubic grid with edge `to`, nearest voxel."""
    axes = [
        np.clip(np.round((np.arange(max(1, round(n * s / to))) + 0.5) * to / s - 0.5).astype(np.intp), 0, n - 1)
        for n, s in zip(volume.shape, spacing, strict=True)
    ]
    return np.asarray(volume[np.ix_(*axes)], np.int16)


def ball(radius: int) -> Mask:
    """Solid ball of `radius` voxels."""
    z, y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
    return np.asarray(z * z + y * y + x * x <= radius * radius)


def dilate(mask: Mask, voxels: float) -> Mask:
    """`mask` grown by a distance in voxels."""
    return np.asarray(ndimage.distance_transform_edt(~mask) <= voxels)


def erode(mask: Mask, voxels: float) -> Mask:
    """`mask` shrunk by a distance in voxels; the faces of the volume do not count as its surface."""
    return np.asarray(ndimage.distance_transform_edt(mask) > voxels)


def fill_axial(mask: Mask) -> Mask:
    """Holes filled slice by slice."""
    return np.stack([ndimage.binary_fill_holes(section) for section in mask])


def axial_hull(mask: Mask, smoothing: float) -> Mask:
    """Convex hull of each axial slice, smoothed along and across slices (`smoothing` in voxels)."""
    hull = np.zeros(mask.shape, bool)
    grid = np.argwhere(np.ones(mask.shape[1:], bool))
    for k, section in enumerate(mask):
        points = np.argwhere(section)
        if len(points) < 8:
            continue
        try:
            corners = points[ConvexHull(points).vertices]
            hull[k] = (Delaunay(corners).find_simplex(grid) >= 0).reshape(section.shape)
        except QhullError:
            continue
    return np.asarray(ndimage.gaussian_filter(hull.astype(np.float32), smoothing, mode="nearest") > 0.5)


def outside_distance(core: Mask, spacing: float) -> npt.NDArray[np.uint8]:
    """Mm from each voxel to the core, slice by slice (fat grows outwards in the axial plane), at most 255."""
    distance = np.full(core.shape, 255.0)
    for k, section in enumerate(core):
        if section.any():
            distance[k] = ndimage.distance_transform_edt(~section) * spacing
    return np.asarray(np.clip(np.ceil(distance), 0, 255), np.uint8)


def pad_axial(volume: IntVolume, spacing: float) -> IntVolume:
    """`volume` with the margin in which fat is grown."""
    margin = round(FAT_MARGIN_MM / spacing)
    return np.pad(volume, ((0, 0), (margin, margin), (margin, margin)))


def shell_bone(tissue: npt.NDArray[np.uint8], bones: Mask, thickness: float) -> None:
    """Set cortical and trabecular bone in place; `thickness` of the cortex in voxels."""
    tissue[bones] = Tissue.CORTICAL_BONE
    tissue[erode(bones, thickness)] = Tissue.TRABECULAR_BONE


def paint(
    source: IntVolume, table: Mapping[str, int], rows: Mapping[str, tuple[Tissue, str | None]], anatomy: str
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
    """Label and tissue volumes of a source map: `rows` gives the tissue and the structure of each source name."""
    labels = np.zeros(1024, np.int8)
    tissues = np.zeros(1024, np.uint8)
    for name, (kind, structure) in rows.items():
        if name not in table:
            raise ValueError(
                f"expected the source label {name!r}, the table has {sorted(table)[:8]}...: check the source file"
            )
        tissues[table[name]] = kind
        labels[table[name]] = structure_label(anatomy, structure) if structure else 0
    return np.asarray(labels[source]), np.asarray(tissues[source])


def largest_part(mask: Mask) -> Mask:
    """The largest connected component."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])))


def read_nrrd(path: Path) -> IntVolume:
    """Voxels (i, j, k) as stored."""
    volume, _ = nrrd.read(str(path))
    return np.asarray(volume, np.int16)
