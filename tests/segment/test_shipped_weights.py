"""The shipped weights on an analytic trunk."""

from __future__ import annotations

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

pytestmark = pytest.mark.slow


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
