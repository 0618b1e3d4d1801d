"""``dicom-node segment`` on a real CT that trained nothing, decoded again and measured against its labels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.segment.nifti_series import read_lps, write_ct_series

pytestmark = pytest.mark.slow

PARTS = {
    "Liver": ("liver",),
    "Spleen": ("spleen",),
    "Kidney_L": ("kidney_left",),
    "Kidney_R": ("kidney_right",),
    "Gallbladder": ("gallbladder",),
    "Pancreas": ("pancreas",),
    "Stomach": ("stomach",),
    "A_Aorta": ("aorta",),
    "V_Venacava_I": ("inferior_vena_cava",),
    "Bladder": ("urinary_bladder",),
    "Lung_L": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "Lung_R": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
    "Heart": (
        "heart_myocardium",
        "heart_atrium_left",
        "heart_ventricle_left",
        "heart_atrium_right",
        "heart_ventricle_right",
    ),
    "Spine": tuple(
        f"vertebrae_{level}" for level in [*(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6))]
    ),
    "Sacrum": ("sacrum",),
    "Pelvis_L": ("hip_left",),
    "Pelvis_R": ("hip_right",),
    "Femur_L": ("femur_left",),
    "Femur_R": ("femur_right",),
    "Iliopsoas_L": ("iliopsoas_left",),
    "Iliopsoas_R": ("iliopsoas_right",),
    "ErectorSpinae_L": ("autochthon_left",),
    "ErectorSpinae_R": ("autochthon_right",),
    "Gluteal_L": ("gluteus_maximus_left", "gluteus_medius_left", "gluteus_minimus_left"),
    "Gluteal_R": ("gluteus_maximus_right", "gluteus_medius_right", "gluteus_minimus_right"),
}
"""Structure -> names of the reference's labels. The reference's vertebrae are without discs."""


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


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_a_real_ct_that_trained_nothing(kind: str, test_data: Path, tmp_path: Path) -> None:
    source = test_data / "ct_abdomen_pelvis_TS_example"
    write_ct_series(source / "example_ct.nii.gz", tmp_path / "series")
    (outcome,) = command("segment", tmp_path / "series", "--output", tmp_path / "out")
    (result,) = (tmp_path / "out").glob(f"*.{kind}.dcm")
    decoded = command("decode", result, "--series", tmp_path / "series", "--output", tmp_path / "labels.nii.gz")
    labels, _, _ = read_lps(tmp_path / "labels.nii.gz")
    reference, _, _ = read_lps(source / "example_seg_full_v1.nii.gz")
    names = {name: int(label) for label, name in json.loads((source / "labels_total_v1.json").read_text()).items()}
    label_of = {name: int(label) for label, name in decoded["structures"].items()}
    scores = {
        name: dice(labels == label_of.get(name, -1), np.isin(reference, [names[part] for part in parts]))
        for name, parts in PARTS.items()
    }
    print(f"\n{kind}: seconds {outcome['seconds']}")
    for name, score in scores.items():
        print(f"  {name:16s} Dice {score:.3f}  confidence {outcome['confidence'].get(name, 0.0):.3f}")
    print(f"  mean over {len(scores)} structures: {np.mean(list(scores.values())):.3f}")
    assert scores["Liver"] > 0.80
