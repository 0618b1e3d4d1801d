"""What bodies differ in beyond their maps: the labels follow what is shown."""

from __future__ import annotations

import torch
from torch import Tensor

from models.bodies import grow_visceral_fat
from models.randomness import Randomness
from models.tissues import UNSETTLED, Tissue

SHAPE = (20, 24, 24)
KIDNEY = 3


def _kidney() -> tuple[Tensor, Tensor]:
    """A kidney between muscle and what is not settled."""
    tissue = torch.full(SHAPE, int(Tissue.MUSCLE))
    tissue[5:15, 6:18, 6:18] = int(Tissue.KIDNEY_CORTEX)
    label = torch.where(tissue == Tissue.KIDNEY_CORTEX, KIDNEY, 0)
    label[:8] = UNSETTLED
    return tissue, label


def test_visceral_fat_takes_the_place_of_rims_and_never_grows_an_organ() -> None:
    changed = 0
    for seed in range(12):
        (before, _), (tissue, label) = _kidney(), _kidney()
        grow_visceral_fat(tissue, label, 4.0, Randomness(seed))
        fat = tissue == Tissue.VISCERAL_FAT
        changed += int(fat.sum())
        assert bool((before[fat] == Tissue.KIDNEY_CORTEX).all())
        assert bool((label[fat] <= 0).all())
        assert torch.equal(tissue[~fat], before[~fat])
        assert bool((tissue[9:11, 11:13, 11:13] == Tissue.KIDNEY_CORTEX).all())  # deeper than any rim
    assert changed > 500


def test_visceral_fat_settles_nothing_that_the_map_left_open() -> None:
    tissue, label = _kidney()
    grow_visceral_fat(tissue, label, 4.0, Randomness(3))
    assert bool((label[:8] == UNSETTLED).all())
    assert bool(((label[8:] == KIDNEY) == (tissue[8:] == Tissue.KIDNEY_CORTEX)).all())
