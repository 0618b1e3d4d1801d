"""Image files of research tools: a damaged one is never read as other voxels."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dicom_node.errors import InputRefused
from dicom_node.imaging.image_file import read_image_file

VALUES = np.random.default_rng(3).integers(0, 9, (12, 10, 8)).astype(np.uint8)


def packed(tmp_path: Path, kind: type = nib.Nifti1Image) -> Path:
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(gzip.compress(kind(VALUES, np.eye(4)).to_bytes()))
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_compressed_nifti_is_read(kind: type, tmp_path: Path) -> None:
    assert np.array_equal(read_image_file(packed(tmp_path, kind)).layers[0], VALUES)


def test_voxels_that_the_check_sum_does_not_fit_are_refused(tmp_path: Path) -> None:
    stored = kept = gzip.compress(nib.Nifti1Image(VALUES, np.eye(4)).to_bytes(), compresslevel=0)
    place = len(stored) - 20  # in the voxels: a stored block has no code that a changed byte could break
    stored = kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :]
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(stored)
    with pytest.raises(InputRefused, match="CRC"):
        read_image_file(path)


@pytest.mark.parametrize(("kept", "more"), [(-4, b""), (-300, b""), (100, b"\xff" * 300), (None, b"more")])
def test_a_damaged_stream_is_refused(kept: int | None, more: bytes, tmp_path: Path) -> None:
    path = packed(tmp_path)
    path.write_bytes(path.read_bytes()[:kept] + more)
    with pytest.raises(InputRefused, match=r"labels\.nii\.gz"):
        read_image_file(path)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x5c\x01\x00\x00" + bytes(400)])
def test_compressed_bytes_that_are_no_nifti_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(InputRefused, match=r"labels\.nii\.gz"):
        read_image_file(path)
