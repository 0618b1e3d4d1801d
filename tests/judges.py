"""Programs of others that judge results: dicom3tools (apt), plastimatch and dcmqi (PyPI, an environment of their own).

They are looked for in the folder that DICOM_NODE_JUDGES names, in ``.cache/judges/bin`` of the repository, and on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK

from dicom_node.imaging.geometry import Geometry

JUDGES_VARIABLE = "DICOM_NODE_JUDGES"
_REPOSITORY = Path(__file__).resolve().parent.parent

Labels = npt.NDArray[np.uint8]


def find_judge(name: str) -> str:
    """The program's path; the test is skipped where it is not installed."""
    folders = [os.environ.get(JUDGES_VARIABLE, ""), str(_REPOSITORY / ".cache/judges/bin"), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(folder for folder in folders if folder))
    if not found:
        pytest.skip(f"{name} is not installed: neither in {JUDGES_VARIABLE} nor in .cache/judges/bin nor on PATH")
    return found


def dciodvfy(path: Path) -> list[str]:
    """Errors and warnings of dicom3tools on one object (IOD, VR, VM)."""
    return _complaints(find_judge("dciodvfy"), "-new", path)


def dcentvfy(paths: Sequence[Path]) -> list[str]:
    """Errors and warnings of dicom3tools on objects that share patient, study and frame of reference."""
    return _complaints(find_judge("dcentvfy"), *paths)


def plastimatch_masks(rtstruct: Path, series: Path, geometry: Geometry, output: Path) -> dict[str, Labels]:
    """Masks by ROIName on the series' grid, as plastimatch imports an RTSTRUCT."""
    _run(
        find_judge("plastimatch"), "convert", "--input", rtstruct, "--referenced-ct", series, "--output-prefix", output,
        "--prefix-format", "nrrd",
    )  # fmt: skip
    return {path.stem: read_on_grid(path, geometry) for path in sorted(output.glob("*.nrrd"))}


def dcmqi_masks(seg: Path, geometry: Geometry, output: Path) -> dict[str, Labels]:
    """Masks by SegmentLabel on the series' grid, as dcmqi reads a SEG."""
    output.mkdir()
    _run(find_judge("segimage2itkimage"), "--inputDICOM", seg, "--outputDirectory", output, "--outputType", "nrrd")
    described = json.loads((output / "meta.json").read_text(encoding="utf-8"))["segmentAttributes"]
    masks = {}
    for number, group in enumerate(described, start=1):
        labels = read_on_grid(output / f"{number}.nrrd", geometry)
        for segment in group:
            masks[segment["SegmentLabel"]] = (labels == segment["labelID"]).astype(np.uint8)
    return masks


def read_on_grid(path: Path, geometry: Geometry) -> Labels:
    """(k, j, i) of an image file at every voxel centre of a geometry; 0 outside of it."""
    image = SimpleITK.ReadImage(str(path))
    values = SimpleITK.GetArrayFromImage(image)
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    indices = np.stack(np.meshgrid(*(np.arange(size) for size in geometry.shape), indexing="ij"), axis=-1)
    points = geometry.index_to_patient(indices.reshape(-1, 3).astype(np.float64))
    found = np.rint((points - np.array(image.GetOrigin())) @ np.linalg.inv(axes).T).astype(int)[:, ::-1]
    inside = np.all((found >= 0) & (found < values.shape), axis=1)
    result = np.zeros(len(points), dtype=values.dtype)
    result[inside] = values[tuple(found[inside].T)]
    return result.reshape(geometry.shape)


def _complaints(*command: object) -> list[str]:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False)
    lines = (result.stdout + result.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning")) or "abort" in line.lower()]


def _run(*command: object) -> None:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, f"{command[0]} failed: {result.stdout[-800:]}{result.stderr[-800:]}"
