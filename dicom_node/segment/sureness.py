"""How sure the network was of each structure: its probability inside, its entropy at the border."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sureness:
    """One structure that was found, on the network's grid.

    Attributes:
        inside: Mean probability of the class over the voxels that it won, 0 to 1.
        rim_entropy: Mean entropy, in bits, of all probabilities over those of its voxels that touch another class by a
            face: 0 where the network is sure, 1 where two classes are equally likely, more where several are.
    """

    inside: float
    rim_entropy: float


def measure_sureness(scores: Tensor, names: Sequence[str]) -> dict[str, Sureness]:
    """Sureness by name of each structure that won a voxel.

    Args:
        scores: (C, k, j, i) class scores.
        names: Names of the classes 1..C-1.
    """
    classes = scores.shape[0]
    winner = scores.argmax(0)
    counts, inside = torch.zeros(classes, dtype=torch.int64), torch.zeros(classes, dtype=torch.float64)
    rims, entropies = torch.zeros_like(counts), torch.zeros_like(inside)
    for labels, rim, plane in zip(winner, _rims(winner), scores.unbind(1), strict=True):
        logarithm = plane.flatten(1) - torch.logsumexp(plane.flatten(1), 0)  # a plane at a time: memory stays bounded
        flat, at_rim = labels.flatten(), rim.flatten()
        best = logarithm.gather(0, flat[None])[0].exp().double()
        entropy = -(logarithm.exp() * logarithm).sum(0).double() / math.log(2)
        counts += torch.bincount(flat, minlength=classes)
        inside += torch.bincount(flat, weights=best, minlength=classes)
        rims += torch.bincount(flat[at_rim], minlength=classes)
        entropies += torch.bincount(flat[at_rim], weights=entropy[at_rim], minlength=classes)
    return {
        name: Sureness(
            round(float(inside[label] / counts[label]), 4), round(float(entropies[label] / max(1, int(rims[label]))), 4)
        )
        for label, name in enumerate(names, start=1)
        if counts[label]
    }


def _rims(winner: Tensor) -> Iterator[Tensor]:
    """Per plane, whether a voxel touches one of another class; the volume's faces do not count."""
    for k, plane in enumerate(winner):
        rim = torch.zeros_like(plane, dtype=torch.bool)
        for other in (k - 1, k + 1):
            if 0 <= other < len(winner):
                rim |= plane != winner[other]
        for axis in (0, 1):
            differs = plane.narrow(axis, 1, plane.shape[axis] - 1) != plane.narrow(axis, 0, plane.shape[axis] - 1)
            rim.narrow(axis, 1, plane.shape[axis] - 1).logical_or_(differs)
            rim.narrow(axis, 0, plane.shape[axis] - 1).logical_or_(differs)
        yield rim
