"""``evaluate`` as a person types it: one way to measure at a time, weights of a training, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from models.network import NetworkShape, SharedNetwork
from models.training import export_weights
from tests.cli.test_commands import run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give one of"),
        (["--ablation", "--rendered", "t.toml"], "give one of"),
        (["image.nii.gz"], "LABELS"),
        (["--ablation"], "--maps"),
        (["--rendered", "t.toml", "--maps", "."], "t.toml"),
        (["--ablation", "--maps", "."], "labelmap_spl_abdominal"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run("evaluate", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_weights_of_a_training_are_measured_against_labels(tmp_path: Path) -> None:
    labels = np.zeros((24, 20, 16), np.uint8)
    labels[4:12, 4:12, 4:12] = 1
    for name, voxels in (("image", np.where(labels, 60, -1000).astype(np.int16)), ("labels", labels)):
        nib.save(nib.Nifti1Image(voxels, np.diag([4.0, 4.0, 4.0, 1.0])), tmp_path / f"{name}.nii.gz")
    torch.manual_seed(0)
    shape = NetworkShape({"torso": 26}, filters=4, blocks_down=(1, 1), blocks_up=(1,), supervised_levels=1)
    export_weights(SharedNetwork(shape).state_dict(), shape, tmp_path / "w.safetensors")
    done = run("evaluate", "image.nii.gz", "labels.nii.gz", "--weights", "w.safetensors", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["structure"] == "Liver"
    assert found["reference_ml"] == pytest.approx(8**3 * 0.064)
    assert 0 <= found["dice"] <= 1
