"""Label maps as files (NIfTI-1/2), in the patient space of a series."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from dicom_node.durable_file import write_durably
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import FloatArray, Geometry

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

GRID_TOLERANCE = 0.05
"""How far, in voxels, a file's voxel centre may lie off the series' and still be the same voxel."""
_NO_STEP = 1e-6
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class LabelFile:
    """A label map read onto the planes of a series.

    Attributes:
        labels: (k, j, i) on the series' grid; 0 is background, and whatever lies outside the file.
        resampled: Whether the file's grid is another one, so that labels were taken from the nearest voxel.
    """

    labels: Labels
    resampled: bool


def read_label_file(path: Path, geometry: Geometry) -> LabelFile:
    """Read a NIfTI label map onto the slices of a series.

    The file may store its axes in any order and direction. NIfTI coordinates are RAS, turned into LPS here.

    Args:
        path: ``.nii`` or ``.nii.gz`` with whole numbers from 0 to 65535.
        geometry: Planes of the series.

    Raises:
        InputRefused: The file is no NIfTI label map, says nothing of its place, or does not meet the series.
    """
    image = _load(path)
    values = _whole_numbers(image, path)
    to_file = np.linalg.inv(_LPS_FROM_RAS @ np.asarray(image.affine, dtype=np.float64))
    labels = np.zeros(geometry.shape, dtype=values.dtype)
    worst, hit = 0.0, False
    step_row = to_file[:3, :3] @ geometry.column_direction * geometry.row_spacing
    step_column = to_file[:3, :3] @ geometry.row_direction * geometry.column_spacing
    for k, origin in enumerate(geometry.origins):
        corner = to_file[:3, :3] @ origin + to_file[:3, 3]
        labels[k], offset, met = _nearest(values, corner, (step_row, step_column), (geometry.rows, geometry.columns))
        worst, hit = max(worst, offset), hit or met
    if not hit:
        raise InputRefused(
            f"{path.name}: none of its voxels lies in the series; expected a label map in the patient space of the "
            "series (check the affine, and that the right series was named)"
        )
    resampled = worst > GRID_TOLERANCE or sorted(values.shape) != sorted(geometry.shape)
    return LabelFile(labels=labels, resampled=resampled)


def write_label_file(path: Path, labels: Labels, geometry: Geometry) -> None:
    """Write labels as NIfTI-1 with the series' affine, axes (i, j, k) in file order.

    A gantry tilt is kept: the affine is sheared then, which sform can say and qform cannot (its code is 0).

    Args:
        path: ``.nii`` or ``.nii.gz``.
        labels: (k, j, i).
        geometry: Planes of the series.

    Raises:
        InputRefused: The slices are unevenly spaced, which one affine cannot say.
        StorageFull: The disk has no room.
    """
    if not geometry.is_evenly_spaced:
        raise InputRefused(
            f"the slices are {geometry.slice_spacings.min():.2f} to {geometry.slice_spacings.max():.2f} mm apart; a "
            "NIfTI file has one spacing only and would put labels in the wrong place"
        )
    ras = _LPS_FROM_RAS @ geometry.affine[:, [2, 1, 0, 3]]
    image: Any = nib.Nifti1Image(np.ascontiguousarray(labels.transpose(2, 1, 0)), ras)  # type: ignore[no-untyped-call]
    image.set_sform(ras, code=1)
    if geometry.is_tilted:
        image.set_qform(None, code=0)
    else:
        image.set_qform(ras, code=1)
    image.header.set_xyzt_units("mm")
    encoded = image.to_bytes()
    write_durably(path, [_compressed(encoded) if path.suffix == ".gz" else encoded])


def _load(path: Path) -> Any:
    try:
        image = nib.load(path)
    except (OSError, ImageFileError, EOFError) as error:
        raise InputRefused(f"{path.name}: not a readable NIfTI file: {error}") from error
    if not isinstance(image, nib.Nifti1Image):
        raise InputRefused(f"{path.name}: expected a NIfTI label map (.nii or .nii.gz), got {type(image).__name__}")
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        raise InputRefused(f"{path.name}: neither sform nor qform is set, so the file does not say where it lies")
    return image


def _whole_numbers(image: Any, path: Path) -> Labels:
    """(x, y, z) labels as unsigned integers; floating-point files are taken where every value is whole."""
    try:
        values = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise InputRefused(f"{path.name}: the voxels cannot be read: {error}") from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise InputRefused(f"{path.name}: expected three dimensions, got {values.ndim}: one label map, not several")
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 65535):
        raise InputRefused(f"{path.name}: labels go from {low:g} to {high:g}; expected whole numbers from 0 to 65535")
    labels: Labels = values.astype(np.uint8) if high < 256 else values.astype(np.uint16)
    if values.dtype.kind == "f" and not np.array_equal(labels, values):
        raise InputRefused(f"{path.name}: has values that are no whole numbers; expected labels, not an image")
    return labels


def _nearest(
    values: Labels, corner: FloatArray, steps: tuple[FloatArray, FloatArray], size: tuple[int, int]
) -> tuple[Labels, float, bool]:
    """One slice of labels from the nearest voxels of the file.

    Args:
        values: (x, y, z) labels of the file.
        corner: (3,) file index of the slice's first voxel.
        steps: (3,) change of file index along a column (per row) and along a row (per column).
        size: Rows and columns.

    Returns:
        (rows, columns) labels; how far a centre lies off the nearest voxel's at most, in voxels; whether any centre
        lies in the file.
    """
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])[None, :]
    inside = np.ones(size, dtype=bool)
    index = []
    offset = 0.0
    for axis in range(3):
        exact = np.full((1, 1), corner[axis])
        # a step that is nothing leaves the index one row or column wide: grids that agree are copied, not computed
        for place, step in zip((rows, columns), (steps[0][axis], steps[1][axis]), strict=True):
            if abs(step) * place.size > _NO_STEP:
                exact = exact + place * step
        nearest = np.rint(exact)
        offset = max(offset, float(np.abs(exact - nearest).max()))
        inside &= (nearest >= 0) & (nearest < values.shape[axis])
        index.append(np.clip(nearest, 0, values.shape[axis] - 1).astype(np.intp))
    plane = np.array(np.broadcast_to(values[index[0], index[1], index[2]], size))
    plane[~inside] = 0
    return plane, offset, bool(inside.any())


def _compressed(encoded: bytes) -> bytes:
    return gzip.compress(encoded, compresslevel=6, mtime=0)
