"""Moving images by fractions of voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def shifted(image: Tensor, voxels: Sequence[float]) -> Tensor:
    """(1, 1, D, H, W) moved by a fraction of voxels per axis (k, j, i), trilinear, its edge repeated."""
    move = torch.eye(3, 4, device=image.device)[None]
    for axis, (shift, size) in enumerate(zip(voxels, image.shape[2:], strict=True)):
        move[0, 2 - axis, 3] = 2 * shift / size  # affine_grid counts i, j, k
    grid = nn.functional.affine_grid(move, list(image.shape), align_corners=False)
    return nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
