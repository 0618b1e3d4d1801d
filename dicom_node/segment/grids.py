"""The grid a network works on: axis-aligned in the patient, array order (k, j, i) = (head, posterior, left)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dicom_node.imaging.geometry import FloatArray, Geometry

Box = tuple[slice, slice, slice]
"""A part of a grid, as slices over (k, j, i)."""


def covering_grid(source: Geometry, spacing_mm: tuple[float, float, float]) -> Geometry:
    """The smallest axis-aligned grid that covers every voxel of a source, centred on it.

    Args:
        source: Place of the source's slices.
        spacing_mm: (z, y, x) of the grid.

    Returns:
        A geometry with row_direction +x (left), column_direction +y (posterior), slices towards the head.
    """
    lower, upper = extent(source)
    spacing = np.array(spacing_mm[::-1])
    counts = np.maximum(np.ceil((upper - lower) / spacing - 1e-6), 1).astype(int)
    first = (lower + upper) / 2 - (counts - 1) / 2 * spacing
    return axis_aligned(first, spacing_mm, (int(counts[2]), int(counts[1]), int(counts[0])))


def axis_aligned(first: FloatArray, spacing_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> Geometry:
    """A grid along the patient's axes.

    Args:
        first: (3,) patient_mm (x, y, z) of the centre of voxel (0, 0, 0).
        spacing_mm: (z, y, x).
        shape: (k, j, i).
    """
    origins = np.tile(np.asarray(first, dtype=np.float64), (shape[0], 1))
    origins[:, 2] += np.arange(shape[0]) * spacing_mm[0]
    return Geometry(
        origins=origins,
        row_direction=np.array([1.0, 0.0, 0.0]),
        column_direction=np.array([0.0, 1.0, 0.0]),
        row_spacing=spacing_mm[1],
        column_spacing=spacing_mm[2],
        rows=shape[1],
        columns=shape[2],
        slice_thickness=spacing_mm[0],
    )


def extent(geometry: Geometry) -> tuple[FloatArray, FloatArray]:
    """(lower, upper) corner in patient_mm of the box around all voxels, each with its full size."""
    below, above = slice_half_widths(geometry)
    sides = [[0, j, i] for j in (-0.5, geometry.rows - 0.5) for i in (-0.5, geometry.columns - 0.5)]
    in_plane = geometry.index_to_patient(np.array(sides)) - geometry.origins[0]
    # every slice counts: where a stack is sheared unevenly, the outermost slice need not be the first or the last
    origins = np.vstack(
        [
            geometry.origins,
            geometry.origins[0] - below * geometry.normal,
            geometry.origins[-1] + above * geometry.normal,
        ]
    )
    ends = (origins[:, None, :] + in_plane).reshape(-1, 3)
    return ends.min(axis=0), ends.max(axis=0)


def slice_half_widths(geometry: Geometry) -> tuple[float, float]:
    """Mm that the first voxels reach below the first plane, and the last ones above the last plane."""
    if len(geometry.origins) == 1:
        return geometry.slice_thickness / 2, geometry.slice_thickness / 2
    return float(geometry.slice_spacings[0]) / 2, float(geometry.slice_spacings[-1]) / 2


def crop(geometry: Geometry, box: Box) -> Geometry:
    """The geometry of ``array[box]``."""
    k, j, i = (part.indices(size) for part, size in zip(box, geometry.shape, strict=True))
    corner = geometry.column_direction * (j[0] * geometry.row_spacing)
    corner = corner + geometry.row_direction * (i[0] * geometry.column_spacing)
    return replace(
        geometry,
        origins=geometry.origins[k[0] : k[1]] + corner,
        rows=j[1] - j[0],
        columns=i[1] - i[0],
    )
