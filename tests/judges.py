"""Programs of others that judge results: dicom3tools (apt); plastimatch, dcmqi, pyRadPlan (environments of their own).

They are looked for in the folder that DICOM_NODE_JUDGES names, in ``.cache/judges/bin`` of the repository, and on PATH;
pyRadPlan in ``.cache/pyradplan``. Nothing here knows the node's code: grids come from the independent reader.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK

from tests.installed import missing
from tests.matrix.source_planes import SourcePlanes

JUDGES_VARIABLE = "DICOM_NODE_JUDGES"
_REPOSITORY = Path(__file__).resolve().parent.parent
_PYRADPLAN = _REPOSITORY / ".cache/pyradplan/bin/python"
_PYRADPLAN_READER = _REPOSITORY / "tests/matrix/pyradplan_reader.py"

Labels = npt.NDArray[np.uint8]


class JudgeFailed(Exception):
    """A judge ended with an error; the message is what it said, the last line first."""


@dataclass(frozen=True)
class Grid:
    """A rectangular image of another program.

    Attributes:
        values: (z, y, x).
        origin: (3,) LPS mm of the first voxel.
        axes: (3, 3) columns: the step in mm along x, y and z.
    """

    values: npt.NDArray[np.integer]
    origin: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]

    def on_planes(self, planes: SourcePlanes) -> npt.NDArray[np.integer]:
        """(k, j, i) the value at every voxel centre of a series; 0 outside of the grid."""
        found = np.rint((planes.centres - self.origin) @ np.linalg.inv(self.axes).T).astype(int)[:, ::-1]
        inside = np.all((found >= 0) & (found < self.values.shape), axis=1)
        result = np.zeros(len(found), dtype=self.values.dtype)
        result[inside] = self.values[tuple(found[inside].T)]
        return result.reshape(planes.shape)


def find_judge(name: str) -> str:
    """The program's path; where it is not installed the test is skipped, or fails if every judge has to be there."""
    folders = [os.environ.get(JUDGES_VARIABLE, ""), str(_REPOSITORY / ".cache/judges/bin"), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(folder for folder in folders if folder))
    return found or _missing(f"{name} (looked for in {JUDGES_VARIABLE}, in .cache/judges/bin and on PATH)")


def dciodvfy(path: Path) -> list[str]:
    """Errors and warnings of dicom3tools on one object (IOD, VR, VM)."""
    return _complaints(find_judge("dciodvfy"), "-new", path)


def dcentvfy(paths: Sequence[Path]) -> list[str]:
    """Errors and warnings of dicom3tools on objects that share patient, study and frame of reference."""
    return _complaints(find_judge("dcentvfy"), *paths)


def plastimatch_masks(rtstruct: Path, series: Path, planes: SourcePlanes, output: Path) -> dict[str, Labels]:
    """Masks by ROIName on the series' planes, as plastimatch imports an RTSTRUCT.

    Raises:
        JudgeFailed: plastimatch ended with an error.
    """
    _run(
        find_judge("plastimatch"), "convert", "--input", rtstruct, "--referenced-ct", series, "--output-prefix", output,
        "--prefix-format", "nrrd",
    )  # fmt: skip
    return {path.stem: read_image(path).on_planes(planes) for path in sorted(output.glob("*.nrrd"))}


def dcmqi_masks(seg: Path, planes: SourcePlanes, output: Path) -> dict[str, Labels]:
    """Masks by SegmentLabel on the series' planes, as dcmqi reads a SEG.

    Raises:
        JudgeFailed: dcmqi ended with an error.
    """
    output.mkdir()
    _run(find_judge("segimage2itkimage"), "--inputDICOM", seg, "--outputDirectory", output, "--outputType", "nrrd")
    described = json.loads((output / "meta.json").read_text(encoding="utf-8"))["segmentAttributes"]
    masks = {}
    for number, group in enumerate(described, start=1):
        labels = read_image(output / f"{number}.nrrd").on_planes(planes)
        for segment in group:
            masks[segment["SegmentLabel"]] = (labels == segment["labelID"]).astype(np.uint8)
    return masks


def pyradplan_masks(
    rtstructs: Mapping[str, tuple[Path, Path, SourcePlanes]], output: Path
) -> dict[str, dict[str, Labels] | str]:
    """Masks by ROIName on each series' planes, as pyRadPlan imports CT and RTSTRUCT; or the error it raised.

    Args:
        rtstructs: By any name: an RTSTRUCT, the folder of its series, the series' planes.
        output: Scratch folder; one process reads them all, because starting it takes seconds.
    """
    if not _PYRADPLAN.exists():
        _missing("pyRadPlan (looked for in .cache/pyradplan)")
    folders = []
    for number, (rtstruct, series, _) in enumerate(rtstructs.values()):
        folder = output / str(number)
        shutil.copytree(series, folder)
        shutil.copy(rtstruct, folder)
        folders.append(folder)
    _run(_PYRADPLAN, _PYRADPLAN_READER, *folders)
    return {
        name: _pyradplan_reading(folder, planes)
        for folder, (name, (_, _, planes)) in zip(folders, rtstructs.items(), strict=True)
    }


def read_image(path: Path) -> Grid:
    """An image file of any format that ITK reads."""
    image = SimpleITK.ReadImage(str(path))
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    return Grid(SimpleITK.GetArrayFromImage(image), np.array(image.GetOrigin()), axes)


def _pyradplan_reading(folder: Path, planes: SourcePlanes) -> dict[str, Labels] | str:
    failed = folder / "error.txt"
    if failed.exists():
        return failed.read_text(encoding="utf-8")
    with np.load(folder / "masks.npz") as read:
        origin, axes = read["origin"], read["axes"]
        return {
            name.removeprefix("mask "): Grid(read[name], origin, axes).on_planes(planes)
            for name in read.files
            if name.startswith("mask ")
        }


def _missing(what: str) -> str:
    missing(f"{what} is not installed; deploy/test installs it")


def _complaints(*command: object) -> list[str]:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False)
    lines = (result.stdout + result.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning")) or "abort" in line.lower()]


def _run(*command: object) -> None:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False)
    if result.returncode:
        said = (result.stdout + result.stderr).strip()
        raise JudgeFailed(f"{said.splitlines()[-1] if said else result.returncode}\n{command[0]}: {said[-1600:]}")
