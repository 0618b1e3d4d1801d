"""``dicom-node segment`` on a real CT that trained nothing, decoded again and measured against its labels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.evaluation import TOTALSEGMENTATOR_NAMES
from tests.segment.nifti_series import read_lps, write_ct_series

pytestmark = pytest.mark.slow


def command(*arguments: str | Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def dice(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return 2 * float(np.sum(found & truth)) / max(1.0, float(found.sum() + truth.sum()))


@pytest.fixture(scope="module")
def segmented(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with the series and its results, and what the command printed of them."""
    folder = tmp_path_factory.mktemp("segmented")
    write_ct_series(test_data / "ct_abdomen_pelvis_TS_example" / "example_ct.nii.gz", folder / "series")
    (outcome,) = command("segment", folder / "series", "--output", folder / "out")
    return folder, outcome


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_a_real_ct_through_the_whole_path(
    kind: str, segmented: tuple[Path, Any], test_data: Path, tmp_path: Path
) -> None:
    """This CT is part of the training: its scores say whether the path is right, not how good the network is."""
    source = test_data / "ct_abdomen_pelvis_TS_example"
    folder, outcome = segmented
    (result,) = (folder / "out").glob(f"*.{kind}.dcm")
    decoded = command("decode", result, "--series", folder / "series", "--output", tmp_path / "labels.nii.gz")
    labels, _, _ = read_lps(tmp_path / "labels.nii.gz")
    reference, _, _ = read_lps(source / "example_seg_full_v1.nii.gz")
    names = {name: int(label) for label, name in json.loads((source / "labels_total_v1.json").read_text()).items()}
    label_of = {name: int(label) for label, name in decoded["structures"].items()}
    parts: dict[str, list[int]] = defaultdict(list)
    for name, label in names.items():
        if name in TOTALSEGMENTATOR_NAMES:
            parts[TOTALSEGMENTATOR_NAMES[name]].append(label)
    truth = {name: np.isin(reference, labels_of) for name, labels_of in parts.items()}
    scores = {name: dice(labels == label_of.get(name, -1), mask) for name, mask in sorted(truth.items()) if mask.any()}
    print(f"\n{kind}: seconds {outcome['seconds']}")
    for name, score in scores.items():
        print(f"  {name:16s} Dice {score:.3f}  confidence {outcome['confidence'].get(name, 0.0):.3f}")
    print(f"  mean over {len(scores)} structures: {np.mean(list(scores.values())):.3f}")
    assert scores["Liver"] > 0.80
