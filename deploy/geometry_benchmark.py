"""Our SEG and RTSTRUCT and those of other writers on every geometry of the tests, read by programs that made neither.

Each cell is the worst Dice over a case's structures (in brackets the mean, where they differ) and the worst volume
error, or the first words of the error that stopped the writer or the reader.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK

from dicom_node.cli.printing import print_table
from tests.judges import JudgeFailed, dcmqi_masks, find_judge, plastimatch_masks, pyradplan_masks
from tests.matrix.agreement import Mask, Reading, dice, worst
from tests.matrix.cases import CASES, Case
from tests.matrix.even_odd import read_structures
from tests.matrix.seg_frames import read_segments
from tests.matrix.written import Written, write_case

PEERS = Path(__file__).resolve().parent / "peers"
PEERS_PYTHON = Path(__file__).resolve().parent.parent / ".cache/peers/bin/python"
WRITERS_SECONDS = 300.0
SEG_JUDGE = "frames reader, dcmqi [1]"
CONTOUR_JUDGE = "even-odd [2]"
COLUMNS = {
    "our SEG": SEG_JUDGE,
    "our RTSTRUCT": CONTOUR_JUDGE,
    "rt-utils RTSTRUCT": CONTOUR_JUDGE,
    "plastimatch RTSTRUCT": CONTOUR_JUDGE,
    "TotalSegmentator SEG": SEG_JUDGE,
    "our RTSTRUCT in plastimatch": "plastimatch [3]",
    "our RTSTRUCT in pyRadPlan": "pyRadPlan [4]",
}
NOTES = """\
[1] The frames reader is the tests' own: pydicom and numpy, each frame where its Plane Position says. dcmqi puts tilted
    and unevenly spaced frames on one regular grid, so it judges uniform series only. The worse of both counts.
[2] The even-odd reader is the tests' own: pydicom and numpy, each contour filled on the plane of the source image that
    is nearest; a contour within another is a hole; contours of fewer than three points hold nothing. A pixel whose
    centre lies on a contour is in it on the left and upper side and out of it on the right and lower side.
[3] plastimatch takes one rectangular grid from a folder of single-frame images: it fails on tilted, uneven and enhanced
    series and does not decode JPEG-LS and JPEG 2000. A contour's last point with the x and y of the first it drops,
    whatever its z: ours begin where that does no harm.
[4] pyRadPlan reads CT alone, in its usual orientation: other orientations and tilts are misread or refused.
rt-utils 1.2.7, plastimatch 1.10.0, TotalSegmentator 2.18.0 (its DICOM export, on the image that its own conversion
makes of the series). The smallest structures are one voxel and a line of twelve pixels.
What stopped a writer or a reader, in full:"""


@dataclass(frozen=True)
class Score:
    """How well one object agrees with the phantom: worst and mean Dice, worst volume error as a fraction."""

    dice: float
    mean_dice: float
    volume_error: float

    def __str__(self) -> str:
        mean = f" ({self.mean_dice:.3f})" if self.mean_dice - self.dice >= 0.0005 else ""
        return f"{self.dice:.3f}{mean} {100 * self.volume_error:.1f} %"


@dataclass
class Failures:
    """What stopped writers and readers, said once in full below the table."""

    messages: dict[str, str] = field(default_factory=dict)

    def short(self, column: str, message: str) -> str:
        """The first three words of a message."""
        first = message.strip().splitlines()[0]
        words = " ".join(re.findall(r"[A-Za-z][\w-]*", re.sub(r"^\w*(Error|Exception): ", "", first))[:3])
        self.messages.setdefault(f"{column}: {words}", first[:300])
        return words


class WriterFailed(Exception):
    """Another writer made no object; the message is its own."""


def main() -> int:
    """Run the cases; 0 when our SEG is exact and our contours are within 0.1 % on every one of them."""
    parser = argparse.ArgumentParser(prog="deploy/bench --geometry", description=__doc__)
    parser.add_argument("--cases", default="", help="only cases whose name contains this text")
    options = parser.parse_args()
    cases = [case for case in CASES if options.cases in case.name]
    failures, began = Failures(), time.monotonic()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as threads:
        folder = Path(name)
        done = list(threads.map(lambda numbered: _measure(numbered[1], folder / str(numbered[0]), failures),
                                enumerate(cases)))  # fmt: skip
        _read_with_pyradplan(done, folder / "pyradplan", failures)
    rows = [(written.case.name, *(cells[column] for column in COLUMNS)) for written, cells in done]
    print_table("worst Dice (mean), worst volume error", ("case", *COLUMNS), [("judge", *COLUMNS.values()), *rows])
    print(NOTES)
    print("\n".join(f"    {short} ... = {message}" for short, message in sorted(failures.messages.items())))
    exact = [_holds(cells) for _, cells in done]
    print(f"{sum(exact)} of {len(exact)} cases hold for ours; {time.monotonic() - began:.0f} s")
    return 0 if all(exact) else 1


def _holds(cells: Mapping[str, Score | str]) -> bool:
    seg, rtstruct = cells["our SEG"], cells["our RTSTRUCT"]
    return (
        isinstance(seg, Score)
        and isinstance(rtstruct, Score)
        and seg.dice == 1.0
        and rtstruct.dice >= 0.995
        and rtstruct.volume_error <= 0.001
    )


def _measure(case: Case, folder: Path, failures: Failures) -> tuple[Written, dict[str, Score | str]]:
    """Every column of one case but pyRadPlan's, which reads all cases in one process."""
    written = write_case(case, folder)
    masks = _masks_file(written)
    columns: dict[str, Callable[[], Score]] = {
        "our SEG": lambda: _judge_seg(written.seg, written),
        "our RTSTRUCT": lambda: _judge_contours(written.rtstruct, written),
        "rt-utils RTSTRUCT": lambda: _judge_contours(_run_peer("rt_utils_writer.py", written, masks), written),
        "plastimatch RTSTRUCT": lambda: _judge_contours(_write_with_plastimatch(written), written),
        "TotalSegmentator SEG": lambda: _judge_seg(_run_peer("totalsegmentator_writer.py", written, masks), written),
        "our RTSTRUCT in plastimatch": lambda: _read_with_plastimatch(written),
    }
    cells: dict[str, Score | str] = {}
    for column, score in columns.items():
        try:
            cells[column] = score()
        except Exception as error:  # noqa: BLE001 - whatever stops a writer or reader is the cell's content
            own = isinstance(error, (WriterFailed, JudgeFailed))
            cells[column] = failures.short(column, str(error) if own else f"{type(error).__name__}: {error}")
    return written, cells


def _score(found: Mapping[str, Reading | Mask], written: Written) -> Score:
    agreed = worst(found, written.truth, written.planes.voxel_volumes)
    nothing = np.zeros(written.planes.shape, dtype=bool)
    mean = np.mean([dice(found.get(name, nothing), mask) for name, mask in written.truth.items()])
    return Score(agreed.dice, float(mean), agreed.volume_error)


def _judge_seg(seg: Path, written: Written) -> Score:
    scores = [_score(read_segments(seg, written.planes), written)]
    if written.case.is_uniform:
        read = dcmqi_masks(seg, written.planes, seg.parent / f"{seg.stem} dcmqi")
        scores.append(_score({name: labels > 0 for name, labels in read.items()}, written))
    return min(scores, key=lambda score: score.dice)


def _judge_contours(rtstruct: Path, written: Written) -> Score:
    return _score(read_structures(rtstruct, written.planes), written)


def _masks_file(written: Written) -> Path:
    """The labels and where their voxels lie, as the writers of others are given them."""
    planes, names = written.planes, list(written.truth)
    labels = np.zeros(planes.shape, dtype=np.uint8)
    for number, name in enumerate(names, start=1):
        labels[written.truth[name]] = number
    path = written.series.parent / "masks.npz"
    np.savez(
        path, labels=labels, names=np.array(names), origins=planes.origins, row=planes.row, column=planes.column,
        spacing=np.array(planes.spacing),
    )  # fmt: skip
    return path


def _run_peer(script: str, written: Written, masks: Path) -> Path:
    """The object that a writer of others makes, in a process and an environment of its own."""
    output = masks.with_name(f"{Path(script).stem}.dcm")
    command = [str(part) for part in (PEERS_PYTHON, PEERS / script, written.series, masks, output)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WRITERS_SECONDS, check=False)
    if ended.returncode:
        raise WriterFailed(ended.stderr.strip().splitlines()[-1])
    answer = json.loads(ended.stdout.splitlines()[-1])
    if "error" in answer:
        raise WriterFailed(answer["error"])
    return output


def _write_with_plastimatch(written: Written) -> Path:
    """The RTSTRUCT that plastimatch makes of mask images; their grid is the series', first and last slice exact."""
    planes, folder = written.planes, written.series.parent
    step = np.cross(planes.row, planes.column) * planes.thickness
    if len(planes.origins) > 1:
        step = (planes.origins[-1] - planes.origins[0]) / (len(planes.origins) - 1)
    length = float(np.linalg.norm(step))
    masks = folder / "plastimatch masks"
    masks.mkdir()
    for name, mask in written.truth.items():
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetOrigin(planes.origins[0].tolist())
        image.SetSpacing((planes.spacing[1], planes.spacing[0], length))
        image.SetDirection(np.stack([planes.row, planes.column, step / length], axis=1).ravel().tolist())
        SimpleITK.WriteImage(image, str(masks / f"{name}.nrrd"))
    output = folder / "plastimatch written"
    command = (find_judge("plastimatch"), "convert", "--input-prefix", masks, "--referenced-ct", written.series,
               "--output-dicom", output)  # fmt: skip
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=WRITERS_SECONDS,
                           check=False)  # fmt: skip
    made = sorted(output.glob("*.dcm")) if output.exists() else []
    if ended.returncode or not made:
        raise WriterFailed((ended.stdout + ended.stderr).strip().splitlines()[-1])
    return made[0]


def _read_with_plastimatch(written: Written) -> Score:
    read = plastimatch_masks(written.rtstruct, written.series, written.planes, written.series.parent / "plastimatch")
    return _score({name: labels > 0 for name, labels in read.items()}, written)


def _read_with_pyradplan(done: list[tuple[Written, dict[str, Score | str]]], folder: Path, failures: Failures) -> None:
    column = "our RTSTRUCT in pyRadPlan"
    read = pyradplan_masks(
        {written.case.name: (written.rtstruct, written.series, written.planes) for written, _ in done}, folder
    )
    for written, cells in done:
        found = read[written.case.name]
        if isinstance(found, str):
            cells[column] = failures.short(column, re.sub(rf"{re.escape(str(folder))}/\d+", "the folder", found))
        else:
            cells[column] = _score({name: labels > 0 for name, labels in found.items()}, written)


if __name__ == "__main__":
    sys.exit(main())
