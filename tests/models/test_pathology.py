"""Disease changes what is seen, not what is true: except spurs, which are bone."""

from __future__ import annotations

import torch
from torch import Tensor

from models.pathology import add_lesions, grow_osteophytes, implant, waste_muscles
from models.randomness import Randomness
from models.tissues import Tissue

SHAPE = (20, 24, 24)


def _block(kind: Tissue, around: Tissue = Tissue.VISCERAL_FAT) -> tuple[Tensor, Tensor]:
    """A block of one tissue, labelled 5, in another."""
    tissue = torch.full(SHAPE, int(around))
    tissue[5:15, 6:18, 6:18] = int(kind)
    return tissue, torch.where(tissue == kind, 5, 0)


def test_lesions_stay_inside_their_organ_and_keep_its_label() -> None:
    tissue, label = _block(Tissue.LIVER)
    before = label.clone()
    add_lesions(tissue, label, Randomness(1))
    lesion = tissue == Tissue.LESION
    assert bool(lesion.any())
    assert bool((label[lesion] == 5).all())
    assert torch.equal(label, before)


def test_fatty_muscle_is_partly_fat() -> None:
    tissue, _ = _block(Tissue.DEEP_MUSCLE, Tissue.LIVER)
    waste_muscles(tissue, Randomness(2))
    fat = float((tissue == Tissue.VISCERAL_FAT).sum()) / 1440
    assert 0.01 < fat < 0.7


def test_spurs_grow_on_labelled_bone_and_are_labelled() -> None:
    tissue, label = _block(Tissue.CORTICAL_BONE)
    grow_osteophytes(tissue, label, Randomness(3))
    grown = (label == 5).sum() - 1440
    assert int(grown) > 0
    assert torch.equal(label == 5, tissue == Tissue.CORTICAL_BONE)


def test_bone_that_no_structure_claims_grows_no_label() -> None:
    tissue, label = _block(Tissue.CORTICAL_BONE)
    grow_osteophytes(tissue, torch.zeros_like(label), Randomness(3))
    assert int((tissue == Tissue.CORTICAL_BONE).sum()) == 1440


def test_metal_is_put_into_bone_alone() -> None:
    tissue, label = _block(Tissue.TRABECULAR_BONE)
    implant(tissue, Randomness(4))
    metal = tissue == Tissue.METAL
    assert bool(metal.any())
    assert bool((label[metal] == 5).all())
