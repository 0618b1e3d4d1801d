"""Geometric shapes, each of which breaks some contour or mask writer: asymmetric in every axis, so that flips show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicom_node.imaging.geometry import Geometry
from tests.phantoms.solids import Box, Ellipsoid, Grid, Mask, Part, Rule, Solid
from tests.phantoms.spec import CENTRE_MM

NAMES = {
    1: "Liver",  # L: asymmetric in every axis
    2: "Kidney_R",  # sphere
    3: "Gallbladder",  # half shell, 2 mm, as thin as cartilage
    4: "Spleen",  # torus: a hole
    5: "Kidney_L",  # four islands
    6: "Bladder",  # a single voxel
    7: "Pancreas",  # a line of one pixel's width
    8: "Heart",  # block at the border of the image
    9: "Stomach",  # nested rings
}
VOXEL, LINE, BORDER = 6, 7, 8
SHELL_MM = 2.0

HOUNSFIELD = np.array([40, 110, 180, 320, 130, 230, 700, 600, -90, 15], dtype=np.float32)
MR_UNITS = np.array([300, 520, 700, 950, 640, 820, 1500, 1300, 90, 1100], dtype=np.float32)


def shapes_parts(scale: float) -> list[Part]:
    """The shapes in a cube of +-scale mm, one per octant (voxel, line and border block belong to the grid)."""

    def box(lower: tuple[float, float, float], upper: tuple[float, float, float]) -> Box:
        return Box(_scaled(lower, scale), _scaled(upper, scale))

    def ball(centre: tuple[float, float, float], radius: float) -> Ellipsoid:
        return Ellipsoid(_scaled(centre, scale), (radius * scale,) * 3)

    solids: list[tuple[int, Solid]] = [
        # L: a long leg to the right, a foot forward, a toe up
        (1, box((-0.92, 0.12, -0.92), (-0.62, 0.90, -0.42))),
        (1, box((-0.92, 0.12, -0.92), (-0.12, 0.38, -0.42))),
        (1, box((-0.92, 0.12, -0.42), (-0.74, 0.38, -0.08))),
        (2, ball((-0.50, -0.48, -0.50), 0.38)),
        (3, Rule(_half_shell(_scaled((-0.50, -0.50, 0.50), scale), 0.42 * scale))),
        (4, Rule(_torus(_scaled((0.52, -0.50, -0.48), scale), 0.30 * scale, 0.13 * scale))),
        (5, ball((0.30, 0.30, -0.60), 0.14)),
        (5, ball((0.72, 0.30, -0.40), 0.17)),
        (5, ball((0.32, 0.74, -0.36), 0.19)),
        (5, ball((0.74, 0.74, -0.66), 0.21)),
        (9, Rule(_rings(_scaled((0.50, -0.46, 0.50), scale), 0.40 * scale))),
    ]
    return [Part(solid, tissue=label, label=label) for label, solid in solids]


def paint_grid_shapes(labels: npt.NDArray[np.uint8], geometry: Geometry, scale: float) -> None:
    """One voxel, a line of one pixel's width and a block at the border: places in the patient, extents in voxels."""
    where = np.array([_scaled((-0.45, 0.45, 0.45), scale), _scaled((0.25, 0.45, 0.55), scale)]) + CENTRE_MM
    nearest = np.rint(geometry.patient_to_index(where)).astype(int)
    (k, j, i), (line_k, line_j, line_i) = np.clip(nearest, 0, np.array(geometry.shape) - 1)
    labels[k, j, i] = VOXEL
    step = 1 if geometry.row_direction.sum() > 0 else -1
    last = int(np.clip(line_i + 11 * step, 0, geometry.columns - 1))
    labels[line_k, line_j, min(line_i, last) : max(line_i, last) + 1] = LINE
    toward = np.array([1.0, 1.0, 0.55])
    corner_j = slice(0, 5) if toward @ geometry.column_direction < 0 else slice(-5, None)
    corner_i = slice(0, 7) if toward @ geometry.row_direction < 0 else slice(-7, None)
    first = int(np.clip(line_k - 1, 0, max(0, geometry.shape[0] - 3)))
    labels[first : first + 3, corner_j, corner_i] = BORDER


def shapes_scale(geometry: Geometry) -> float:
    """Half the shortest side of the volume in mm; the slice's own for a single slice."""
    extents = (
        geometry.distances[-1] - geometry.distances[0],
        (geometry.rows - 1) * geometry.row_spacing,
        (geometry.columns - 1) * geometry.column_spacing,
    )
    return float(min(extent for extent in extents if extent > 0) / 2)


def _scaled(point: tuple[float, float, float], scale: float) -> tuple[float, float, float]:
    return point[0] * scale, point[1] * scale, point[2] * scale


def _radius(x: Grid, y: Grid, z: Grid, centre: tuple[float, float, float]) -> Grid:
    return np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)


def _half_shell(centre: tuple[float, float, float], radius: float):
    def formula(x: Grid, y: Grid, z: Grid) -> Mask:
        distance = _radius(x, y, z, centre)
        return (distance <= radius) & (distance > radius - SHELL_MM) & (y - centre[1] <= 0.15 * radius)

    return formula


def _torus(centre: tuple[float, float, float], ring: float, tube: float):
    def formula(x: Grid, y: Grid, z: Grid) -> Mask:
        flat = np.hypot(x - centre[0], y - centre[1]) - ring
        return flat**2 + (z - centre[2]) ** 2 <= tube**2

    return formula


def _rings(centre: tuple[float, float, float], radius: float):
    """A core and a ring around it, in a cylinder along z, so that contours nest two deep."""

    def formula(x: Grid, y: Grid, z: Grid) -> Mask:
        flat = np.hypot(x - centre[0], y - centre[1]) / radius
        ring = (flat <= 1.0) & (flat > 0.72)
        core = flat <= 0.36
        return (ring | core) & (np.abs(z - centre[2]) <= 0.8 * radius)

    return formula
