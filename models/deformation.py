"""Random geometry of a rendered patch: field of view, pose, elastic deformation, organ sizes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.label_maps import LabelMap


@dataclass(frozen=True)
class Geometry:
    """How strongly patches are deformed; angles in degrees, lengths in mm."""

    rotation: float = 8.0
    scale: float = 0.16
    enlargement: float = 0.06
    elastic_spacing: float = 60.0
    elastic_amplitude: float = 7.0
    organ_scale: float = 0.30
    organs_resized: int = 5
    cropped: float = 0.35
    off_axis: float = 20.0
    on_structure: float = 0.6
    focus: tuple[str, ...] = ()
    """Structures at whose level patches are centred four times as often: the rare ones."""
    mirrored: bool = False


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One uniform number."""
    return float(torch.rand((), generator=generator)) * (high - low) + low


def chance(probability: float, generator: torch.Generator) -> bool:
    """True with `probability`."""
    return bool(torch.rand((), generator=generator) < probability)


def smooth_noise(shape: tuple[int, ...], cell: float, generator: torch.Generator, channels: int = 1) -> Tensor:
    """Gaussian noise of unit variance at a coarse grid of `cell` voxels, interpolated: (channels, D, H, W)."""
    coarse = [max(2, round(n / cell) + 1) for n in shape]
    noise = torch.randn((1, channels, *coarse), generator=generator)
    return nn.functional.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0]


def sample_positions(
    source: LabelMap, shape: tuple[int, int, int], spacing: float, geometry: Geometry, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Where the voxels of a random patch lie in the source map.

    Returns positions (3, D, H, W) in voxels of the map (k, j, i) and a mask (D, H, W) of voxels that repeat the edge
    of a smaller field of view (replicated as inference pads them) or lie beyond the map's ends.
    """
    grid, repeated = _cropped_grid(shape, geometry, generator)
    step = spacing / source.spacing
    positions = _pose(grid * step, geometry, generator)
    positions = positions + _centre(source, shape, geometry, step, generator)[:, None, None, None]
    cell = geometry.elastic_spacing / spacing
    amplitude = uniform(0.2, 1.0, generator) * geometry.elastic_amplitude / source.spacing
    positions = positions + amplitude * smooth_noise(shape, cell, generator, 3)
    positions = _resize_organs(positions, source, geometry, generator)
    if geometry.mirrored and chance(0.5, generator):
        positions[2] = source.label.shape[2] - 1 - positions[2]
    beyond = (positions[0] < -2) | (positions[0] > source.label.shape[0] + 1)
    return positions, repeated | beyond


def _cropped_grid(shape: tuple[int, int, int], geometry: Geometry, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Centred voxel indices (3, D, H, W), at times clamped to a smaller field of view, and where they repeat."""
    axes, repeats = [], []
    crop = chance(geometry.cropped, generator)
    for size in shape:
        low, high = 0, size - 1
        if crop:
            low = int(uniform(0, 0.16, generator) * size)
            high = size - 1 - int(uniform(0, 0.16, generator) * size)
        index = torch.arange(size)
        repeats.append((index < low) | (index > high))
        axes.append(index.clamp(low, high).float() - (size - 1) / 2)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    repeated = repeats[0][:, None, None] | repeats[1][None, :, None] | repeats[2][None, None, :]
    return grid, repeated


def _pose(grid: Tensor, geometry: Geometry, generator: torch.Generator) -> Tensor:
    """Random rotation about each axis and log-uniform scale per axis of (3, D, H, W)."""
    matrix = torch.eye(3)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        angle = torch.deg2rad(torch.randn((), generator=generator) * geometry.rotation / 2)
        turn = torch.eye(3)
        turn[a, a] = turn[b, b] = torch.cos(angle)
        turn[a, b], turn[b, a] = -torch.sin(angle), torch.sin(angle)
        matrix = matrix @ turn
    whole = geometry.enlargement + uniform(-geometry.scale, geometry.scale, generator)
    each = (torch.rand(3, generator=generator) * 2 - 1) * geometry.scale * 0.6 + whole
    matrix = matrix @ torch.diag(torch.exp(-each))
    return torch.einsum("ab,bdhw->adhw", matrix, grid)


def _centre(
    source: LabelMap, shape: tuple[int, int, int], geometry: Geometry, step: float, generator: torch.Generator
) -> Tensor:
    """Centre of the patch in the map: near the body's axis, at the level of a structure or anywhere along it."""
    extent = source.label.shape
    half = shape[0] * step / 2
    low, high = min(half * 0.6, extent[0] / 2), max(extent[0] - half * 0.6, extent[0] / 2)
    k = uniform(low, high, generator)
    if source.centres and chance(geometry.on_structure, generator):
        names = list(source.centres) + 3 * [name for name in geometry.focus if name in source.centres]
        centre, radius = source.centres[names[int(torch.randint(len(names), (), generator=generator))]]
        k = min(max(float(centre[0]) + uniform(-1, 1, generator) * radius, low), high)
    spread = geometry.off_axis / source.spacing
    # A window of the tiling may be off the axis when the body is wider than the window.
    far = 3.0 if chance(0.25, generator) else 1.0
    j, i = ((n - 1) / 2 + uniform(-spread, spread, generator) * far for n in extent[1:])
    return torch.tensor([k, j, i])


def _resize_organs(positions: Tensor, source: LabelMap, geometry: Geometry, generator: torch.Generator) -> Tensor:
    """Magnify or shrink some structures about their centres, fading out around them."""
    names = list(source.centres)
    if not names or geometry.organ_scale <= 0:
        return positions
    order = torch.randperm(len(names), generator=generator)[: geometry.organs_resized]
    for index in order.tolist():
        centre, radius = source.centres[names[index]]
        factor = float(torch.exp(torch.randn((), generator=generator) * geometry.organ_scale).clamp(0.6, 1.7))
        offset = positions - torch.tensor(centre, dtype=torch.float32)[:, None, None, None]
        weight = torch.exp(-offset.square().sum(0) / (2 * (1.2 * radius) ** 2))
        positions = positions + offset * (weight * (1 / factor - 1))
    return positions
