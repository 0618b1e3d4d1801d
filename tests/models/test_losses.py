"""Partial labels are masked, absent classes are not distilled."""

from __future__ import annotations

import torch

from models.losses import (
    ClassWeights,
    class_confusions,
    distillation_loss,
    partial_cross_entropy,
    partial_dice,
    segmentation_loss,
)
from models.tissues import IGNORED, UNSETTLED


def _case(classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(1, classes, 4, 6, 6, generator=generator)
    label = torch.randint(0, classes, (1, 4, 6, 6), generator=generator)
    return logits, label


def test_ignored_voxels_do_not_change_the_loss() -> None:
    logits, label = _case()
    label[:, :2] = IGNORED
    changed = logits.clone()
    changed[:, :, :2] += 7 * torch.randn_like(changed[:, :, :2])
    torch.testing.assert_close(segmentation_loss([logits], label), segmentation_loss([changed], label))


def test_cross_entropy_without_balance_is_the_plain_one() -> None:
    logits, label = _case()
    torch.testing.assert_close(
        partial_cross_entropy(logits, label), torch.nn.functional.cross_entropy(logits, label), atol=1e-5, rtol=1e-5
    )


def test_unsettled_voxels_ask_only_that_the_sum_is_right() -> None:
    logits, label = _case()
    label[:] = UNSETTLED
    sure = torch.full_like(logits, -20.0)
    sure[:, 3] = 20.0  # one of the structures that the map does not label
    assert float(partial_cross_entropy(sure, label, (3, 4))) < 1e-4
    assert float(partial_cross_entropy(sure, label, (2, 4))) > 10


def test_unsettled_structure_is_left_out_of_its_dice_but_counts_against_others() -> None:
    logits, label = _case()
    label[0, :2] = UNSETTLED
    label[0, 2:] = 3
    label[0, 3] = 1
    raised = logits.clone()
    raised[0, 3, :2] += 30  # predicts structure 3 where it is unsettled
    free = float(partial_dice(raised, label, (3,)))
    counted = float(partial_dice(raised, label, ()))
    assert free < counted


def test_perfect_prediction_has_no_loss() -> None:
    _, label = _case()
    logits = 30.0 * torch.nn.functional.one_hot(label, 5).movedim(-1, 1).float()
    coarse = logits[:, :, ::2, ::2, ::2]
    assert float(segmentation_loss([logits, coarse], label)) < 1e-3


def test_balance_weighs_small_classes_up() -> None:
    label = torch.zeros(1, 4, 8, 8, dtype=torch.long)
    label[0, 0, 0, :2] = 1
    logits = torch.zeros(1, 2, 4, 8, 8)
    logits[:, 0] = 3.0  # everything background: wrong on the two voxels alone
    assert float(partial_cross_entropy(logits, label, (), ClassWeights(0.5))) > 3 * float(
        partial_cross_entropy(logits, label)
    )


def test_emphasis_weighs_one_class_up() -> None:
    label = torch.tensor([[[[0, 0, 1, 2]]]])
    plain, raised = (ClassWeights(0.0, factors).of(label, 3) for factors in ({}, {2: 8.0}))
    assert plain.tolist() == [1, 1, 1]
    assert raised.tolist() == [1, 1, 8]


def test_confusions_are_the_mean_logits_of_each_class() -> None:
    logits, label = _case()
    means, present = class_confusions(logits, label)
    inside = (label == 2)[0]
    torch.testing.assert_close(means[2], logits[0, :, inside].mean(1), atol=1e-5, rtol=1e-5)
    assert bool(present.all())


def test_classes_absent_from_one_side_are_not_distilled() -> None:
    logits, label = _case()
    without = label.clone()
    without[without == 4] = IGNORED
    with_all = class_confusions(logits, label)
    with_less = class_confusions(logits, without)
    assert float(distillation_loss(with_all, with_less)) == 0  # equal where both have the class
    nothing = class_confusions(logits, torch.full_like(label, IGNORED))
    assert float(distillation_loss(with_all, nothing)) == 0


def test_distillation_is_symmetric_and_grows_with_disagreement() -> None:
    logits, label = _case()
    other = logits.roll(1, 1)
    a, b = class_confusions(logits, label), class_confusions(other, label)
    torch.testing.assert_close(distillation_loss(a, b), distillation_loss(b, a))
    assert float(distillation_loss(a, b)) > 0
