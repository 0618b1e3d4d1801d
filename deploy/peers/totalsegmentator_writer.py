"""Writes a SEG with TotalSegmentator's export; runs in the environment of deploy/peers-constraints.txt.

python totalsegmentator_writer.py SERIES MASKS.npz OUTPUT.dcm

The series takes TotalSegmentator's own way: dicom2nifti makes a NIfTI image of it, labels lie on that image's grid, and
the export turns them back. MASKS.npz holds ``labels``, (k, j, i), ``names``, and where the voxels lie (LPS mm):
``origins`` (n, 3), ``row``, ``column`` and ``spacing`` (between rows, between columns). Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import types
from contextlib import redirect_stdout
from pathlib import Path

import nibabel
import numpy as np

sys.modules["torch"] = types.ModuleType("torch")  # imported at the top of its settings, not used by its export
from totalsegmentator.dicom_io import dcm_to_nifti, save_mask_as_dicomseg  # noqa: E402


def write(series: Path, masks: Path, output: Path) -> None:
    """Convert the series, put the labels on its grid, export them."""
    with tempfile.TemporaryDirectory() as folder:
        image_path = Path(folder) / "series.nii.gz"
        dcm_to_nifti(series, image_path)
        image = nibabel.load(image_path)
        with np.load(masks) as archive:
            labels = labels_on(image, archive)
            classes = dict(enumerate(archive["names"].tolist(), start=1))
        save_mask_as_dicomseg(labels, classes, series, output, image.affine)


def labels_on(image: nibabel.Nifti1Image, archive: np.lib.npyio.NpzFile) -> np.ndarray:
    """The label of the nearest source voxel at every voxel of a NIfTI image (RAS mm)."""
    source, origins, spacing = archive["labels"], archive["origins"], archive["spacing"]
    normal = np.cross(archive["row"], archive["column"])
    indices = np.stack(np.meshgrid(*(np.arange(size) for size in image.shape[:3]), indexing="ij"), axis=-1)
    points = nibabel.affines.apply_affine(image.affine, indices) * (-1.0, -1.0, 1.0)
    heights = points @ normal
    k = np.abs(heights[..., None] - origins @ normal).argmin(axis=-1)
    offset = points - origins[k]
    j = np.rint(offset @ archive["column"] / spacing[0]).astype(int)
    i = np.rint(offset @ archive["row"] / spacing[1]).astype(int)
    inside = (j >= 0) & (j < source.shape[1]) & (i >= 0) & (i < source.shape[2])
    labels = np.zeros(image.shape[:3], dtype=np.uint8)
    labels[inside] = source[k[inside], j[inside], i[inside]]
    return labels


if __name__ == "__main__":
    try:
        with redirect_stdout(sys.stderr):
            write(*map(Path, sys.argv[1:4]))
        answer = {}
    except Exception as error:  # noqa: BLE001 - what it cannot write is its answer
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))
