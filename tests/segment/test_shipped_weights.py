"""The shipped weights on an analytic trunk and on a real CT that trained nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.series import load_series
from dicom_node.segment.segmentation import Segmentation
from dicom_node.segment.segmenter import Segmenter
from tests.phantoms import build, spec_for, write
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


def dice(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return 2 * float(np.sum(found & truth)) / max(1.0, float(found.sum() + truth.sum()))


def dice_by_structure(labels: LabelVolume, truth: dict[str, npt.NDArray[np.bool_]]) -> dict[str, float]:
    """Dice of every structure that the truth holds."""
    by_name = {structure.name: label for label, structure in labels.structures.items()}
    return {
        name: dice(labels.mask(by_name[name]), mask) for name, mask in truth.items() if name in by_name and mask.any()
    }


def report(title: str, found: Segmentation, scores: dict[str, float]) -> None:
    lines = [f"\n{title}, card {found.card} {found.card_version}, seconds {found.seconds}"]
    for name, score in scores.items():
        lines.append(f"  {name:16s} Dice {score:.3f}  confidence {found.confidence.get(name, 0.0):.3f}")
    lines.append(f"  mean over {len(scores)} structures: {np.mean(list(scores.values())):.3f}\n")
    sys.stdout.write("\n".join(lines))


def test_a_real_ct_that_trained_nothing(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "ct_abdomen_pelvis_TS_example"
    write_ct_series(source / "example_ct.nii.gz", tmp_path)
    volume = load_series([tmp_path])
    original, _, _ = read_lps(source / "example_ct.nii.gz")
    np.testing.assert_allclose(volume.voxels, original, atol=0.5)

    found = Segmenter("cpu").segment(volume, "torso")

    reference, _, _ = read_lps(source / "example_seg_full_v1.nii.gz")
    names = {name: int(label) for label, name in json.loads((source / "labels_total_v1.json").read_text()).items()}
    truth = {name: np.isin(reference, [names[part] for part in parts]) for name, parts in PARTS.items()}
    scores = dice_by_structure(found.label_volume, truth)
    report("CT abdomen and pelvis (reference: another model's labels)", found, scores)
    assert scores["Liver"] > 0.80


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_an_analytic_trunk(modality: str, tmp_path: Path) -> None:
    spec = spec_for(modality, "torso")
    write(spec, tmp_path)
    phantom = build(spec)

    found = Segmenter("cpu").segment(load_series([tmp_path]), "torso")

    truth = {name: np.asarray(phantom.labels == label) for label, name in phantom.names.items()}
    scores = dice_by_structure(found.label_volume, truth)
    report(f"analytic {modality} trunk", found, scores)
    assert found.confidence, "nothing was found"
    assert scores["Liver"] > 0.3
