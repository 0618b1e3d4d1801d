"""What bodies differ in beyond their maps: the labels follow what is shown."""

from __future__ import annotations

import torch
from torch import Tensor

from models.bodies import crowd_organs, fill_contents, grow_visceral_fat
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


def test_a_stout_body_has_fat_deep_around_its_organs_every_time() -> None:
    def fat(seed: int, stout: float) -> int:
        tissue, label = _kidney()
        tissue[:, 20:] = int(Tissue.MESENTERY)
        grow_visceral_fat(tissue, label, 3.0, Randomness(seed), stout)
        assert bool(((label > 0) == ((tissue == Tissue.KIDNEY_CORTEX) & (label != UNSETTLED))).all())
        return int((tissue == Tissue.VISCERAL_FAT).sum())

    lean, stout = ([fat(seed, share) for seed in range(12)] for share in (0.0, 1.0))
    assert sum(stout) > 1.2 * sum(lean)
    assert min(stout) > 1000


def test_visceral_fat_settles_nothing_that_the_map_left_open() -> None:
    tissue, label = _kidney()
    grow_visceral_fat(tissue, label, 4.0, Randomness(3))
    assert bool((label[:8] == UNSETTLED).all())
    assert bool(((label[8:] == KIDNEY) == (tissue[8:] == Tissue.KIDNEY_CORTEX)).all())


def test_muscle_beside_organs_takes_the_place_of_fat_alone() -> None:
    changed = 0
    for seed in range(6):
        tissue = torch.full(SHAPE, int(Tissue.VISCERAL_FAT))
        tissue[:, :12] = int(Tissue.SMALL_BOWEL)
        tissue[:, 9:15, 9:15] = int(Tissue.ARTERY)
        before = tissue.clone()
        crowd_organs(tissue, 4.0, Randomness(seed))
        new = tissue != before
        changed += int(new.sum())
        assert bool((before[new] == Tissue.VISCERAL_FAT).all())
        assert bool((tissue[new] == Tissue.MUSCLE).all())
        assert not bool(new[:, 18:].any())  # farther than muscle is put
    assert changed > 500


def test_renal_sinus_is_fat_at_times() -> None:
    shares = []
    for seed in range(12):
        tissue = torch.full(SHAPE, int(Tissue.RENAL_PELVIS))
        fill_contents(tissue, Randomness(seed))
        shares.append(float((tissue == Tissue.VISCERAL_FAT).float().mean()))
    assert min(shares) == 0.0
    assert max(shares) > 0.3
