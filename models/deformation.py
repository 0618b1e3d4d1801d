"""Random geometry of a rendered patch: field of view, pose, elastic deformation, organ sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.label_maps import LabelMap
from models.randomness import Randomness


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
    hollow: Mapping[str, float] = field(default_factory=dict)
    """Organs that fill and empty: magnification of their middle at most (2.4 gives 1.75 times the diameter)."""
    focus: tuple[str, ...] = ()
    """Structures at whose level patches are centred four times as often: the rare ones."""
    around: float = 0.0
    """Share of the patches centred at a structure's level that lie around it also across the body, as small windows
    of the tiling do."""
    mirrored: bool = False


def sample_positions(
    source: LabelMap, shape: tuple[int, int, int], spacing: float, geometry: Geometry, random: Randomness
) -> tuple[Tensor, Tensor]:
    """Where the voxels of a random patch lie in the source map.

    Returns positions (3, D, H, W) in voxels of the map (k, j, i) and a mask (D, H, W) of voxels that repeat the edge
    of a smaller field of view (replicated as inference pads them) or lie beyond the map's ends.
    """
    grid, repeated = _cropped_grid(shape, geometry, random)
    grid, repeated = grid.to(random.device), repeated.to(random.device)
    step = spacing / source.spacing
    positions = _pose(grid * step, geometry, random)
    positions = positions + _centre(source, shape, geometry, step, random).to(random.device)[:, None, None, None]
    cell = geometry.elastic_spacing / spacing
    amplitude = random.uniform(0.2, 1.0) * geometry.elastic_amplitude / source.spacing
    positions = positions + amplitude * random.smooth(shape, cell, 3)
    positions = _resize_organs(positions, source, geometry, random)
    if geometry.mirrored and random.chance(0.5):
        positions[2] = source.label.shape[2] - 1 - positions[2]
    beyond = (positions[0] < -2) | (positions[0] > source.label.shape[0] + 1)
    return positions, repeated | beyond


def _cropped_grid(shape: tuple[int, int, int], geometry: Geometry, random: Randomness) -> tuple[Tensor, Tensor]:
    """Centred voxel indices (3, D, H, W), at times clamped to a smaller field of view, and where they repeat."""
    axes, repeats = [], []
    crop = random.chance(geometry.cropped)
    for size in shape:
        low, high = 0, size - 1
        if crop:
            low = int(random.uniform(0, 0.16) * size)
            high = size - 1 - int(random.uniform(0, 0.16) * size)
        index = torch.arange(size)
        repeats.append((index < low) | (index > high))
        axes.append(index.clamp(low, high).float() - (size - 1) / 2)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    repeated = repeats[0][:, None, None] | repeats[1][None, :, None] | repeats[2][None, None, :]
    return grid, repeated


def _pose(grid: Tensor, geometry: Geometry, random: Randomness) -> Tensor:
    """Random rotation about each axis and log-uniform scale per axis of (3, D, H, W)."""
    matrix = torch.eye(3)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        angle = torch.tensor(math.radians(random.normal() * geometry.rotation / 2))
        turn = torch.eye(3)
        turn[a, a] = turn[b, b] = torch.cos(angle)
        turn[a, b], turn[b, a] = -torch.sin(angle), torch.sin(angle)
        matrix = matrix @ turn
    whole = geometry.enlargement + random.uniform(-geometry.scale, geometry.scale)
    each = (random.uniforms(3) * 2 - 1) * geometry.scale * 0.6 + whole
    matrix = matrix @ torch.diag(torch.exp(-each))
    return torch.einsum("ab,bdhw->adhw", matrix.to(grid.device), grid)


def _centre(
    source: LabelMap, shape: tuple[int, int, int], geometry: Geometry, step: float, random: Randomness
) -> Tensor:
    """Centre of the patch in the map: near the body's axis, at the level of a structure or anywhere along it."""
    spread = geometry.off_axis / source.spacing
    # A window of the tiling may be off the axis when the body is wider than the window.
    far = 3.0 if random.chance(0.25) else 1.0
    place = [(n - 1) / 2 + random.uniform(-spread, spread) * far for n in source.label.shape]
    place[0] = random.uniform(*_room(source, shape, step, 0))
    if source.centres and random.chance(geometry.on_structure):
        names = list(source.centres) + 3 * [name for name in geometry.focus if name in source.centres]
        centre, radius = source.centres[names[random.integer(0, len(names))]]
        for axis in (0, 1, 2) if random.chance(geometry.around) else (0,):
            low, high = _room(source, shape, step, axis)
            place[axis] = min(max(float(centre[axis]) + random.uniform(-1, 1) * radius, low), high)
    return torch.tensor(place)


def _room(source: LabelMap, shape: tuple[int, int, int], step: float, axis: int) -> tuple[float, float]:
    """First and last place of a patch's centre along an axis at which the map fills most of it."""
    extent, half = source.label.shape[axis], shape[axis] * step / 2
    return min(half * 0.6, extent / 2), max(extent - half * 0.6, extent / 2)


def _resize_organs(positions: Tensor, source: LabelMap, geometry: Geometry, random: Randomness) -> Tensor:
    """Magnify or shrink some structures about their centres, fading out around them."""
    names = list(source.centres)
    if not names or geometry.organ_scale <= 0:
        return positions
    for index in random.order(len(names))[: geometry.organs_resized]:
        factor = min(max(math.exp(random.normal() * geometry.organ_scale), 0.6), 1.7)
        positions = _magnify(positions, source, names[index], factor, 1.2)
    for name, most in geometry.hollow.items():
        if name in source.centres and random.chance(0.5):
            factor = random.log_uniform(0.8, most)
            # what grows much must push its neighbours from farther away
            positions = _magnify(positions, source, name, factor, 1.2 * max(1.0, factor) ** 0.7)
    return positions


def _magnify(positions: Tensor, source: LabelMap, name: str, factor: float, reach: float) -> Tensor:
    """Magnify a structure about its centre; the effect fades over `reach` of its radii."""
    centre, radius = source.centres[name]
    offset = positions - torch.tensor(centre, dtype=torch.float32, device=positions.device)[:, None, None, None]
    weight = torch.exp(-offset.square().sum(0) / (2 * (reach * radius) ** 2))
    return positions + offset * (weight * (1 / factor - 1))
