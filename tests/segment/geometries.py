"""Random source geometries: oblique, flipped, tilted, uneven, of one slice or many."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dicom_node.imaging.geometry import FloatArray, Geometry


def geometry(
    axes: FloatArray,
    distances: FloatArray,
    *,
    tilt: float = 0.0,
    rows: int = 24,
    columns: int = 20,
    spacing: tuple[float, float] = (1.3, 0.9),
    centre: tuple[float, float, float] = (12.0, -30.0, -150.0),
) -> Geometry:
    """A source around ``centre``.

    Args:
        axes: (3, 3) rows: row direction, column direction; the third is not used.
        distances: (n,) of the planes along the normal.
        tilt: Shift along the column direction per mm along the normal.
        rows: Number of rows.
        columns: Number of columns.
        spacing: (between rows, between columns).
        centre: Patient coordinates of the middle.
    """
    row, column = axes[0], axes[1]
    normal = np.cross(row, column)
    middle = (rows - 1) / 2 * spacing[0] * column + (columns - 1) / 2 * spacing[1] * row
    along = distances - distances.mean()
    origins = np.array(centre) - middle + np.outer(along, normal) + np.outer(along * tilt, column)
    return Geometry(origins, row, column, spacing[0], spacing[1], rows, columns, slice_thickness=4.0)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Any geometry a scanner could make, and some it could not."""
    rotation, _ = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 10_000))).normal(size=(3, 3)))
    axes = np.eye(3)[draw(st.permutations(range(3)))] * np.array(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))
    if draw(st.booleans()):
        axes = rotation
    gaps = draw(st.lists(st.floats(0.6, 6.0), min_size=0, max_size=14))
    return geometry(
        axes,
        np.concatenate([[0.0], np.cumsum(gaps)]),
        tilt=draw(st.sampled_from([0.0, 0.0, 0.3, -0.4])),
        rows=draw(st.integers(1, 30)),
        columns=draw(st.integers(1, 30)),
        spacing=(draw(st.floats(0.4, 3.0)), draw(st.floats(0.4, 3.0))),
    )


def voxel_positions(source: Geometry) -> FloatArray:
    """(k, j, i, 3) patient_mm of every voxel."""
    indices = np.stack(np.meshgrid(*map(np.arange, source.shape), indexing="ij"), -1).reshape(-1, 3).astype(float)
    return source.index_to_patient(indices).reshape(*source.shape, 3)
