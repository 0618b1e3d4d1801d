"""NIfTI volumes along the patient's axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Scan:
    """Voxels (k, j, i) on a grid along the patient's axes: head, posterior, left; spacing in mm."""

    voxels: npt.NDArray[np.float32]
    spacing: tuple[float, float, float]


def read_nifti(path: Path) -> Scan:
    """A NIfTI volume turned to the nearest LPS axes; obliquity is left in the grid."""
    image = nib.load(path)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine),  # type: ignore[attr-defined,no-untyped-call]
        nib.orientations.axcodes2ornt(("L", "P", "S")),  # type: ignore[no-untyped-call]
    )
    turned = image.as_reoriented(turn)  # type: ignore[attr-defined]
    voxels = np.ascontiguousarray(np.asarray(turned.dataobj, dtype=np.float32).transpose(2, 1, 0))
    i, j, k = (float(size) for size in turned.header.get_zooms()[:3])
    return Scan(voxels, (k, j, i))
