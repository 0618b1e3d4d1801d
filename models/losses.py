"""Losses over partly labelled maps: Dice and cross-entropy, deep supervision, class-wise distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.tissues import IGNORED, UNSETTLED

_TINY = 1e-5


@dataclass(frozen=True)
class ClassWeights:
    """How much a class's voxels count in the cross-entropy: frequency ** -balance, at most 30, times its emphasis.

    With a balance of 0.5 small structures appear early in training, but all come out too large; with 0 neither. The
    emphasis, by class, does the same for single ones.
    """

    balance: float = 0.0
    emphasis: Mapping[int, float] = field(default_factory=dict)

    def of(self, label: Tensor, classes: int) -> Tensor:
        """Weights (classes,) for a label volume."""
        counts = torch.bincount(label[label >= 0].flatten(), minlength=classes).float().clamp(min=1)
        weights = ((counts.sum() / counts) ** self.balance).clamp(max=30.0)
        for number, factor in self.emphasis.items():
            weights[number] *= factor
        return weights


def partial_cross_entropy(
    logits: Tensor, label: Tensor, unsettled: Sequence[int] = (), weights: ClassWeights | None = None
) -> Tensor:
    """Cross-entropy of logits (B, C, ...) against label (B, ...), its voxels weighted by class.

    `IGNORED` voxels are left out. An `UNSETTLED` voxel is either background or one of the classes `unsettled`: its
    target is their summed probability, so that a structure the map does not label there is never taught as background.
    """
    return _cross_entropy(_by_class(logits).log_softmax(0), label.flatten(), unsettled, weights or ClassWeights())


def partial_dice(logits: Tensor, label: Tensor, unsettled: Sequence[int] = ()) -> Tensor:
    """Mean soft Dice loss over the foreground classes that are present.

    `IGNORED` voxels are left out; `UNSETTLED` voxels are left out for the classes in `unsettled` and background for
    the rest.
    """
    return _dice(_by_class(logits).softmax(0), label.flatten(), unsettled)


def _by_class(logits: Tensor) -> Tensor:
    """(B, C, ...) -> (C, voxels)."""
    return logits.transpose(0, 1).flatten(1)


def _cross_entropy(log_probability: Tensor, label: Tensor, unsettled: Sequence[int], weights: ClassWeights) -> Tensor:
    target = label.clamp(min=0)
    loss = -log_probability.gather(0, target[None])[0]
    open_voxels = label == UNSETTLED
    if unsettled and bool(open_voxels.any()):
        merged = -log_probability[[0, *unsettled]].logsumexp(0)
        loss = torch.where(open_voxels, merged, loss)
    weight = weights.of(label, log_probability.shape[0])[target] * (label != IGNORED)
    return (loss * weight).sum() / weight.sum().clamp(min=_TINY)


def _dice(probability: Tensor, label: Tensor, unsettled: Sequence[int]) -> Tensor:
    """Sums per class without a one-hot volume: memory and time of the loss rival the network's otherwise."""
    classes = probability.shape[0]
    target = label.clamp(min=0)
    known = (label >= 0).to(probability.dtype)
    hit = probability.gather(0, target[None])[0] * known
    overlap = probability.new_zeros(classes).index_add(0, target, hit)
    count = torch.bincount(target, weights=known, minlength=classes).to(probability.dtype)
    total = probability @ (label != IGNORED).to(probability.dtype)
    if unsettled:
        index = torch.tensor(list(unsettled), device=label.device)
        total = total.index_add(0, index, -(probability[index] @ (label == UNSETTLED).to(probability.dtype)))
    present = count > 0
    present[0] = False
    if not bool(present.any()):
        return probability.sum() * 0
    return (1 - (2 * overlap + _TINY) / (total + count + _TINY))[present].mean()


def segmentation_loss(
    logits: Sequence[Tensor], label: Tensor, unsettled: Sequence[int] = (), weights: ClassWeights | None = None
) -> Tensor:
    """Dice + cross-entropy at every level of deep supervision, finest first, with weights 1, 1/2, 1/4, ..."""
    total = logits[0].new_zeros(())
    shares = [0.5**level for level in range(len(logits))]
    for level, (share, output) in enumerate(zip(shares, logits, strict=True)):
        coarse = label[(slice(None),) + (slice(None, None, 2**level),) * 3]
        coarse = coarse[(slice(None), *(slice(0, n) for n in output.shape[2:]))]
        flat = coarse.flatten()
        with torch.autocast(output.device.type, enabled=False):  # sums over volumes need fp32
            log_probability = _by_class(output.float()).log_softmax(0)
            loss = _cross_entropy(log_probability, flat, unsettled, weights or ClassWeights())
            loss = loss + _dice(log_probability.exp(), flat, unsettled)
        total = total + share * loss
    return total / sum(shares)


def class_confusions(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Mean logits (C, C) over the voxels of each true class, and which classes are present (C,)."""
    channels = logits.shape[1]
    flat = logits.transpose(0, 1).reshape(channels, -1)
    true = label.flatten()
    valid = true >= 0
    one_hot = nn.functional.one_hot(true.clamp(min=0), channels).to(flat.dtype) * valid[:, None]
    counts = one_hot.sum(0)
    return (flat @ one_hot).T / counts.clamp(min=1)[:, None], counts > 0


def distillation_loss(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], *, temperature: float = 2.0
) -> Tensor:
    """Symmetric KL between two modalities' class-wise soft confusions (Dou et al. 2020, doi:10.1109/TMI.2019.2963882).

    Arguments are results of `class_confusions`. Classes absent from either side are left out: their zero logits would
    pull the other modality towards uniform.
    """
    present = first[1] & second[1]
    if not bool(present.any()):
        return first[0].new_zeros(())
    p = (first[0][present] / temperature).log_softmax(1)
    q = (second[0][present] / temperature).log_softmax(1)
    forward = (p.exp() * (p - q)).sum(1)
    backward = (q.exp() * (q - p)).sum(1)
    return 0.5 * (forward + backward).mean()
