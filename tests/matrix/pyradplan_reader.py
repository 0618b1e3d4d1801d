"""Reads CT and RTSTRUCT folders as pyRadPlan imports them; runs in pyRadPlan's own environment.

python pyradplan_reader.py FOLDER...    writes masks.npz, or error.txt, into each folder
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import SimpleITK
from pyRadPlan.io.dicom import DicomImporter


def read(folder: Path) -> dict[str, np.ndarray]:
    """Masks (z, y, x) of every structure, with the grid of the CT."""
    importer = DicomImporter(str(folder))
    ct = importer.load_ct()
    structures = importer.load_cst(ct)
    if structures is None:
        raise ValueError("no structure was read")
    image = ct.cube_hu
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    masks = {f"mask {voi.name}": SimpleITK.GetArrayFromImage(voi.mask).astype(np.uint8) for voi in structures.vois}
    return {"origin": np.array(image.GetOrigin()), "axes": axes, **masks}


for name in sys.argv[1:]:
    try:
        np.savez(Path(name) / "masks.npz", **read(Path(name)))
    except Exception as error:  # noqa: BLE001 - what it cannot read is its answer
        (Path(name) / "error.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
