"""Label, mask and probability files that the tests of reading them share."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from dicom_node.imaging.geometry import Geometry
from tests.phantoms import PhantomSpec

ORIENTATIONS = {
    "axial": PhantomSpec(slices=9, rows=12, columns=10),
    "sagittal": PhantomSpec(slices=9, rows=12, columns=10, orientation="sagittal"),
    "coronal": PhantomSpec(slices=9, rows=12, columns=10, orientation="coronal"),
    "oblique": PhantomSpec(slices=9, rows=12, columns=10, orientation="oblique"),
    "flipped": PhantomSpec(slices=9, rows=12, columns=10, flip_rows=True, flip_columns=True),
    "tilted": PhantomSpec(slices=9, rows=12, columns=10, tilt_degrees=18.0),
    "one slice": PhantomSpec(slices=1, rows=12, columns=10),
}
UNEVEN = PhantomSpec(rows=12, columns=10, positions=(0.0, 2.0, 4.0, 9.0, 14.0))


def some_labels(geometry: Geometry) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 7, geometry.shape).astype(np.uint8)


def save(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def nrrd_header(geometry: Geometry, **changes: object) -> dict[str, object]:
    """Of an array with axes (x, y, z) on the grid of a series; None takes a field away."""
    header = {
        "space": "left-posterior-superior",
        "space directions": geometry.affine[:3, [2, 1, 0]].T,
        "space origin": geometry.affine[:3, 3],
        "kinds": ["domain"] * 3,
        **{key.replace("_", " ") if not key.startswith("Segment") else key: value for key, value in changes.items()},
    }
    return {key: value for key, value in header.items() if value is not None}


def layered_header(geometry: Geometry, **changes: object) -> dict[str, object]:
    directions = np.vstack([[np.nan] * 3, geometry.affine[:3, [2, 1, 0]].T])
    return nrrd_header(geometry, space_directions=directions, kinds=["list", *["domain"] * 3], **changes)


def save_probability(path: Path, values: np.ndarray, geometry: Geometry) -> Path:
    return save(path, values.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ geometry.affine[:, [2, 1, 0, 3]])
