"""From stored voxels to what the network sees; the same function in training and in inference."""

from __future__ import annotations

import torch
from torch import Tensor

CT_RANGE = (-1024.0, 1500.0)
"""HU beyond this carry nothing for these structures."""
BODY_ABOVE = 0.14
"""Square root of the share of the range above which a voxel of MR counts as body: muscle can be very dark."""
RANKS = 128
"""Steps in which ranks are told apart."""
_MAX_SAMPLE = 100_000


def standardise(voxels: Tensor, modality: str) -> Tensor:
    """Network input of an image (any shape) of `modality`: "CT" in HU, anything else as MR or unknown.

    CT: clipped to `CT_RANGE`; half linear, half a soft window around soft tissue, so that 10 HU between organs count.
    MR and unknown: square root of the 0.5-99.5 percentile range, then the mean of the values and of their ranks inside
    the body (where fat is very bright, all organs share a narrow band of values but not of ranks), then z-score there.
    """
    voxels = voxels.float()
    if modality == "CT":
        hounsfield = voxels.clamp(*CT_RANGE)
        return hounsfield / 1000.0 + 1.5 * torch.tanh((hounsfield - 40.0) / 150.0)
    low, high = quantiles(voxels, (0.005, 0.995))
    scaled = ((voxels - low) / max(high - low, 1e-6)).clamp(0, 1).sqrt()
    body = scaled[scaled > BODY_ABOVE]
    if body.numel() < 100:
        return scaled - scaled.mean()
    steps = torch.linspace(0, 1, RANKS + 1, device=scaled.device)
    levels = torch.tensor(quantiles(body, tuple(steps.tolist())), device=scaled.device)
    ranks = torch.searchsorted(levels, scaled).float() / RANKS
    mixed = scaled / body.std().clamp(min=1e-3) + ranks / 0.29  # a uniform rank has this deviation
    inside = mixed[scaled > BODY_ABOVE]
    return (mixed - inside.mean()) / inside.std().clamp(min=1e-3)


def quantiles(values: Tensor, at: tuple[float, ...]) -> list[float]:
    """Quantiles of a regular subsample (torch.quantile refuses large inputs)."""
    flat = values.flatten()
    flat = flat[:: max(1, flat.numel() // _MAX_SAMPLE)]
    values_at: list[float] = torch.quantile(flat, torch.tensor(at, device=flat.device)).tolist()
    return values_at
