"""Shifts by fractions of voxels."""

from __future__ import annotations

import torch

from models.warping import shifted


def test_whole_voxels_move_values_as_they_are() -> None:
    image = torch.randn(1, 1, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    moved = shifted(image, (1.0, -2.0, 3.0))
    torch.testing.assert_close(moved[..., :5, 2:, :5], image[..., 1:, :5, 3:], atol=1e-5, rtol=1e-5)


def test_half_a_voxel_is_the_mean_of_two() -> None:
    image = torch.arange(8.0).reshape(1, 1, 1, 1, 8)
    moved = shifted(image, (0.0, 0.0, 0.5))
    torch.testing.assert_close(moved[0, 0, 0, 0, :7], torch.arange(7.0) + 0.5, atol=1e-4, rtol=1e-4)
