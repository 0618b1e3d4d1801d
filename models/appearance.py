"""What the image itself says of each structure: the network's answer drawn to the borders that can be seen.

A network that learnt where organs lie paints them there, also a little beside them. Within one image a structure is
mostly one substance and has a brightness of its own, whatever the modality and the contrast. So the network's
probabilities are taken for an atlas of this patient, each structure's brightness is learnt from the voxels that are
probably its own, each voxel is asked again which structure it resembles, and so on in turns; neighbours agree where the
image does not say otherwise. That is expectation maximisation with an atlas, here a network's answer, and a Markov
random field in the mean-field approximation (Van Leemput et al. 1999, doi:10.1109/42.811270; Puonti et al. 2016,
doi:10.1016/j.neuroimage.2016.09.011).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.card import Appearance
from models.standardisation import quantiles

LEVELS = 128
"""Steps of brightness that are told apart."""
_SPREAD = (0.002, 0.998)
"""Quantiles of the image between which the levels lie."""
_LEAST_DEVIATION = 0.15
"""Of a structure's brightness, in units of the standardised image."""
_SMOOTHED = 2.0
"""Levels over which the background's histogram, of many substances, is smoothed (one sigma)."""
_BORROWED = 5.0
"""Voxels with the whole image's brightness that each structure is given: one of few voxels claims little."""
_SLAB = 16
"""Planes that are worked on at once: memory stays bounded."""


def follow_image(scores: Tensor, image: Tensor, appearance: Appearance) -> None:
    """Change a network's scores, in place, by how each class looks in this image.

    Afterwards they are log-probabilities up to a constant in each voxel, as before. Needs memory for a second volume of
    scores.

    Args:
        scores: (C, k, j, i) fp32 class scores (logits); class 0 is the background.
        image: (k, j, i) standardised image on the same grid.
        appearance: How far it is followed.
    """
    if appearance.share == 0 or appearance.rounds == 0:
        return
    levels, values = _levels(image)
    prior = scores.sub_(torch.logsumexp(scores, 0))
    probable = prior.exp()
    for _ in range(appearance.rounds):
        looks = appearance.share * _log_densities(_histograms(probable, levels), values)
        for slab in _slabs(image.shape[0]):
            probable[:, slab] = torch.softmax(_judged(prior, probable, looks[:, levels[slab]], slab, appearance), 0)
    for slab in _slabs(image.shape[0]):
        prior[:, slab] = _judged(prior, probable, looks[:, levels[slab]], slab, appearance).div_(appearance.temperature)


def _levels(image: Tensor) -> tuple[Tensor, Tensor]:
    """Level of every voxel, and the brightness in the middle of each level."""
    low, high = quantiles(image, _SPREAD)
    width = max(high - low, 1e-6) / LEVELS
    values = low + width * (torch.arange(LEVELS, device=image.device) + 0.5)
    return ((image - low) / width).clamp(0, LEVELS - 1).long(), values


def _slabs(planes: int) -> list[slice]:
    return [slice(first, min(first + _SLAB, planes)) for first in range(0, planes, _SLAB)]


def _histograms(probable: Tensor, levels: Tensor) -> Tensor:
    """(C, LEVELS) probable voxels of each class by level."""
    counts = torch.zeros(len(probable), LEVELS, device=probable.device)
    return counts.index_add_(1, levels.flatten(), probable.flatten(1))


def _log_densities(counts: Tensor, values: Tensor) -> Tensor:
    """(C, LEVELS) log-probability of each level in each class: one Gaussian a structure, the background as it is."""
    voxels = counts.sum(1, keepdim=True).clamp(min=1e-6)
    mean = (counts * values).sum(1, keepdim=True) / voxels
    variance = (counts * (values - mean) ** 2).sum(1, keepdim=True) / voxels
    variance = variance.clamp(min=_LEAST_DEVIATION**2)
    width = float(values[1] - values[0])
    densities = torch.exp(-((values - mean) ** 2) / (2 * variance)) * width / torch.sqrt(2 * math.pi * variance)
    whole = _shares(counts.sum(0, keepdim=True), 1.0)
    densities[:1] = _shares(counts[:1], _SMOOTHED)
    return ((voxels * densities + _BORROWED * whole) / (voxels + _BORROWED)).clamp(min=1e-7).log()


def _shares(counts: Tensor, sigma: float) -> Tensor:
    """Smoothed counts (1, LEVELS) as shares of one, none of them nothing."""
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=counts.device) / sigma) ** 2)
    padded = nn.functional.pad(counts[None], (reach, reach), mode="replicate")
    smooth = nn.functional.conv1d(padded, (kernel / kernel.sum())[None, None])[0] + 1e-3
    return smooth / smooth.sum()


def _judged(prior: Tensor, probable: Tensor, looks: Tensor, slab: slice, appearance: Appearance) -> Tensor:
    """Scores of a slab: the network's, the image's, and what the neighbours probably are."""
    first, last = max(slab.start - 1, 0), min(slab.stop + 1, prior.shape[1])
    near = _mean_around(probable[:, first:last])[:, slab.start - first : slab.stop - first]
    return looks.add_(prior[:, slab]).add_(near, alpha=appearance.smoothing)


def _mean_around(volumes: Tensor) -> Tensor:
    """Mean of the 3 x 3 x 3 voxels around each of (C, k, j, i), the outermost repeated; thrice as fast as pooling."""
    for axis in (1, 2, 3):
        size = volumes.shape[axis]
        total = volumes.clone()
        total.narrow(axis, 1, size - 1).add_(volumes.narrow(axis, 0, size - 1))
        total.narrow(axis, 0, size - 1).add_(volumes.narrow(axis, 1, size - 1))
        total.narrow(axis, 0, 1).add_(volumes.narrow(axis, 0, 1))
        total.narrow(axis, size - 1, 1).add_(volumes.narrow(axis, size - 1, 1))
        volumes = total.div_(3)
    return volumes
