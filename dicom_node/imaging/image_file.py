"""Image files of research tools (NIfTI-1/2 and NRRD): their voxels, and where these lie in the patient."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import FloatArray

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LPS_FROM_SPACE = {
    "left-posterior-superior": np.eye(4),
    "lps": np.eye(4),
    "right-anterior-superior": LPS_FROM_RAS,
    "ras": LPS_FROM_RAS,
    "left-anterior-superior": np.diag([1.0, -1.0, 1.0, 1.0]),
    "las": np.diag([1.0, -1.0, 1.0, 1.0]),
}
_MAGIC = b"NRRD"
_GZIP_MAGIC = b"\x1f\x8b"
_NIFTI_2_SIZES = (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")
"""540, the size of a NIfTI-2 header, in either byte order: how such a file begins."""


@dataclass(frozen=True)
class FileSegment:
    """One segment that a file of 3D Slicer (``.seg.nrrd``) describes.

    Attributes:
        layer: Which of the file's layers holds it.
        value: Its value in that layer.
        name: As Slicer shows it; may be empty.
    """

    layer: int
    value: int
    name: str


@dataclass(frozen=True)
class ImageFile:
    """An image file's content.

    Attributes:
        layers: (x, y, z) voxels, in the file's own order of axes; several only where segments overlap (``.seg.nrrd``).
        affine: (4, 4) from file index (x, y, z, 1) to patient_mm (LPS).
        segments: What 3D Slicer says the values are; empty for other files.
    """

    layers: tuple[npt.NDArray[Any], ...]
    affine: FloatArray
    segments: tuple[FileSegment, ...] = ()


def read_image_file(path: Path) -> ImageFile:
    """Read a NIfTI or NRRD file, told apart by their first bytes.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.seg.nrrd``.

    Raises:
        InputRefused: The file is neither, is damaged, says nothing of its place, or has not three dimensions.
    """
    try:
        with path.open("rb") as file:
            is_nrrd = file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise InputRefused(f"{path.name}: cannot be read: {error.strerror}") from error
    return _read_nrrd(path) if is_nrrd else _read_nifti(path)


def _read_nifti(path: Path) -> ImageFile:
    """NIfTI coordinates are RAS and turned into LPS."""
    try:
        image = _nifti_image(path)
    except (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise InputRefused(f"{path.name}: neither a readable NIfTI file nor NRRD: {error}") from error
    if not isinstance(image, nib.Nifti1Image):
        raise InputRefused(f"{path.name}: expected NIfTI (.nii, .nii.gz) or NRRD (.nrrd), got {type(image).__name__}")
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        raise InputRefused(f"{path.name}: neither sform nor qform is set, so the file does not say where it lies")
    try:
        values = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise InputRefused(f"{path.name}: the voxels cannot be read: {error}") from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    affine = _invertible(LPS_FROM_RAS @ np.asarray(image.affine, dtype=np.float64), path)
    return ImageFile(layers=(_three_dimensional(values, path),), affine=affine)


def _nifti_image(path: Path) -> Any:
    """The image; of a compressed file the whole stream is read first.

    The library alone stops at the last voxel, before the check sum behind it, and takes damaged labels for others.
    """
    with path.open("rb") as file:
        is_compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    if not is_compressed:
        return nib.load(path)
    with gzip.open(path) as file:
        content = file.read()
    kind = nib.Nifti2Image if content[:4] in _NIFTI_2_SIZES else nib.Nifti1Image
    return kind.from_bytes(content)


def _read_nrrd(path: Path) -> ImageFile:
    """Source: the NRRD format, version 5, and 3D Slicer's segmentation storage node."""
    header = _nrrd_header(path)
    affine, list_axes = _nrrd_place(header, path)
    try:
        values, _ = nrrd.read(str(path))
    except Exception as error:  # on damaged bytes the reader raises nearly anything
        raise InputRefused(f"{path.name}: the voxels cannot be read: {error}") from error
    for axis in reversed([axis for axis in list_axes if values.shape[axis] == 1]):
        values = values.squeeze(axis)
    segments = _slicer_segments(header)
    if segments and len(list_axes) == 1 and values.ndim == 4:
        layers = tuple(np.moveaxis(values, list_axes[0], 0))
        if any(not 0 <= segment.layer < len(layers) for segment in segments):
            raise InputRefused(f"{path.name}: a segment lies in a layer that is not there; it has {len(layers)}")
        return ImageFile(layers, affine, segments)
    return ImageFile((_three_dimensional(values, path),), affine, segments)


def _nrrd_header(path: Path) -> Mapping[str, Any]:
    """The header; a file that names another one for its voxels is not followed there."""
    try:
        header: Mapping[str, Any] = nrrd.read_header(str(path))
    except Exception as error:  # on damaged bytes the reader raises nearly anything
        raise InputRefused(f"{path.name}: not a readable NRRD file: {error}") from error
    if "data file" in header or "datafile" in header:
        raise InputRefused(f"{path.name}: its voxels are in another file; expected one file that holds everything")
    return header


def _nrrd_place(header: Mapping[str, Any], path: Path) -> tuple[FloatArray, list[int]]:
    """The affine to LPS, and which axes are lists (no direction in space)."""
    space = str(header.get("space", "")).lower()
    if space not in _LPS_FROM_SPACE or "space directions" not in header or "space origin" not in header:
        raise InputRefused(
            f"{path.name}: the file does not say where it lies; expected space left-posterior-superior (or right- or "
            f"left-anterior-superior) with space directions and origin, got space {space or 'nothing'}"
        )
    units = {unit.strip('" ') for unit in header.get("space units", [])}
    if units - {"mm", ""}:
        raise InputRefused(f"{path.name}: expected millimetres, got {', '.join(sorted(units))}")
    rows = [[np.nan] * 3 if row is None else row for row in header["space directions"]]
    directions = np.array(rows, dtype=np.float64)
    list_axes = [axis for axis, row in enumerate(directions) if np.isnan(row).any()]
    place = np.eye(4)
    in_space = np.delete(directions, list_axes, axis=0)
    if in_space.shape != (3, 3) or len(header["space origin"]) != 3:
        raise InputRefused(f"{path.name}: expected three dimensions in space, got {len(in_space)}")
    place[:3, :3] = in_space.T
    place[:3, 3] = header["space origin"]
    return _invertible(_LPS_FROM_SPACE[space] @ place, path), list_axes


def _slicer_segments(header: Mapping[str, Any]) -> tuple[FileSegment, ...]:
    """Older files say neither layer nor value: one layer for each segment, 1 inside it.

    Raises:
        InputRefused: A layer or value is no whole number.
    """
    segments: list[FileSegment] = []
    while any(f"Segment{len(segments)}_{key}" in header for key in ("ID", "Name", "LabelValue")):
        prefix = f"Segment{len(segments)}_"
        layer, value = header.get(f"{prefix}Layer", len(segments)), header.get(f"{prefix}LabelValue", 1)
        if not (str(layer).isdecimal() and str(value).isdecimal()):
            raise InputRefused(f"{prefix}Layer and {prefix}LabelValue are whole numbers, got {layer} and {value}")
        segments.append(FileSegment(int(layer), int(value), str(header.get(f"{prefix}Name", ""))))
    return tuple(segments)


def _three_dimensional(values: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if values.ndim != 3:
        raise InputRefused(f"{path.name}: expected three dimensions, got {values.ndim}: one label map, not several")
    if values.dtype.kind not in "buif":
        raise InputRefused(f"{path.name}: expected one number in each voxel, got {values.dtype}")
    return values


def _invertible(affine: FloatArray, path: Path) -> FloatArray:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        raise InputRefused(f"{path.name}: its directions span no volume, so the file does not say where it lies")
    return affine


def nrrd_header(affine: FloatArray, fields: Mapping[str, str], type_name: str, sizes: tuple[int, ...]) -> bytes:
    """An NRRD header (gzip encoding, little endian, LPS); the voxels follow it, the first axis fastest.

    Args:
        affine: (4, 4) from (x, y, z, 1) to patient_mm.
        fields: Further key/value pairs.
        type_name: NRRD's name of the voxels' type.
        sizes: (x, y, z) or (layers, x, y, z).
    """
    directions = [f"({','.join(repr(float(part)) for part in affine[:3, axis])})" for axis in range(3)]
    layered = len(sizes) == 4
    lines = [
        "NRRD0004",
        f"type: {type_name}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {' '.join([*['none'] * layered, *directions])}",
        f"kinds: {' '.join([*['list'] * layered, *['domain'] * 3])}",
        "endian: little",
        "encoding: gzip",
        f"space origin: ({','.join(repr(float(part)) for part in affine[:3, 3])})",
        *(f"{key}:={_escaped(value)}" for key, value in fields.items()),
    ]
    return "\n".join(lines).encode() + b"\n\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
