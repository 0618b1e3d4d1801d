"""Measures of agreement against shapes whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from models.card import load_card
from models.evaluation import compare, evaluate, harmonise, read_names, surface_agreement
from models.nifti import read_nifti

CARD = load_card("torso")
SPACING = (2.0, 1.0, 1.0)


def _box(shift: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    label = np.zeros((12, 20, 20), np.uint8)
    label[3:9, 5:15, 5 + shift : 15 + shift] = 1
    return label


def test_same_labels_agree_entirely() -> None:
    (result,) = compare(_box(), _box(), CARD.structures, SPACING, 1.0)
    assert (result.dice, result.surface_dice, result.hd95_mm, result.volume_error) == (1, 1, 0, 0)
    assert result.volume_ml == pytest.approx(6 * 10 * 10 * 2 / 1000)


def test_shifted_box_has_the_dice_and_distance_of_its_shift() -> None:
    (result,) = compare(_box(2), _box(), CARD.structures, SPACING, 1.0)
    assert result.dice == pytest.approx(0.8)
    assert result.hd95_mm == pytest.approx(2.0)
    assert result.surface_dice < 1


def test_structures_that_the_reference_lacks_are_left_out() -> None:
    found = _box()
    found[0] = 2
    assert [result.structure for result in compare(found, _box(), CARD.structures, SPACING, 1.0)] == ["Liver"]


def test_structure_that_was_missed_has_no_surface_agreement() -> None:
    mask = _box() > 0
    assert surface_agreement(np.zeros_like(mask), mask, SPACING, 1.0) == (0.0, float("inf"))


def test_other_peoples_names_are_translated(tmp_path: Path) -> None:
    table = tmp_path / "t.json"
    table.write_text(json.dumps({"1": "kidney_left", "2": "gluteus_medius_right", "3": "vertebrae_L1", "4": "brain"}))
    names = read_names(CARD, table)
    assert names == {1: "Kidney_L", 2: "Gluteal_R", 3: "Spine"}
    labels = harmonise(np.array([0, 1, 2, 3, 4], np.float32), names, CARD.structures)
    expected = [0, *(CARD.structures.index(n) + 1 for n in ("Kidney_L", "Gluteal_R", "Spine")), 0]
    assert labels.tolist() == expected


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAL"])
def test_nifti_is_turned_to_head_posterior_left(tmp_path: Path, axes: str) -> None:
    volume = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)  # i, j, k in LPS
    image = nib.Nifti1Image(volume, np.diag([-1.0, -2.0, 3.0, 1.0]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    nib.save(image.as_reoriented(turn), tmp_path / "v.nii.gz")
    scan = read_nifti(tmp_path / "v.nii.gz")
    assert scan.spacing == (3.0, 2.0, 1.0)
    np.testing.assert_array_equal(scan.voxels, volume.transpose(2, 1, 0))


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    for name, size in (("image", 8), ("labels", 9)):
        nib.save(nib.Nifti1Image(np.zeros((size, 8, 8), np.int16), np.eye(4)), tmp_path / f"{name}.nii.gz")
    with pytest.raises(ValueError, match="one grid"):
        evaluate(replace(CARD), tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz", "CT")


def test_scores_may_be_finished_before_they_become_labels(tmp_path: Path) -> None:
    voxels = np.zeros((16, 16, 16), np.int16)
    voxels[4:12, 4:12, 4:12] = 1
    for name in ("image", "labels"):
        nib.save(nib.Nifti1Image(voxels, np.diag([4.0, 4.0, 4.0, 1.0])), tmp_path / f"{name}.nii.gz")
    images = (tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz")
    for label, dice in ((0, 0.0), (1, 2 * 512 / (512 + 4096))):
        (found,) = evaluate(CARD, *images, "CT", finish=lambda scores, label=label: scores[label].fill_(1e6))
        assert found.dice == pytest.approx(dice)
