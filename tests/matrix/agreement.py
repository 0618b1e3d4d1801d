"""How well what a judge read agrees with what the phantom is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """One structure as a judge read it.

    Attributes:
        mask: (k, j, i) on the planes of the source series.
        outside: Voxels that lie on none of them.
        off_plane_mm: How far the worst point lies off its plane.
        area_mm2: (n,) area that contours enclose on each plane; None for SEG.
        references: Whether every contour or frame names the source image whose plane it lies on.
    """

    mask: Mask
    outside: int = 0
    off_plane_mm: float = 0.0
    area_mm2: npt.NDArray[np.float64] | None = None
    references: bool = True


@dataclass(frozen=True)
class Agreement:
    """Worst over all structures.

    Attributes:
        dice: Least Dice coefficient.
        volume_error: Greatest difference of volume as a fraction of the true one.
        structure: Which structure has the least Dice.
    """

    dice: float
    volume_error: float
    structure: str


def dice(found: Reading | Mask, expected: Mask) -> float:
    """Dice coefficient; what lies outside of the series counts as wrong."""
    reading = found if isinstance(found, Reading) else Reading(found)
    total = np.count_nonzero(reading.mask) + reading.outside + np.count_nonzero(expected)
    return float(2 * np.count_nonzero(reading.mask & expected) / total)


def volume_error(found: Reading | Mask, expected: Mask, voxel_volumes: npt.NDArray[np.float64]) -> float:
    """Difference of volume as a fraction of the expected one, by voxels."""
    mask = found.mask if isinstance(found, Reading) else found
    true = _volume(expected, voxel_volumes)
    return float(abs(_volume(mask, voxel_volumes) - true) / true)


def worst(
    found: Mapping[str, Reading | Mask], expected: Mapping[str, Mask], voxel_volumes: npt.NDArray[np.float64]
) -> Agreement:
    """The worst structure; one that is missing, or that should not be there, has Dice 0."""
    nothing = np.zeros_like(next(iter(expected.values())))
    scores = {name: dice(found.get(name, nothing), mask) for name, mask in expected.items()}
    scores |= {name: 0.0 for name in found if name not in expected}
    errors = [volume_error(found.get(name, nothing), mask, voxel_volumes) for name, mask in expected.items()]
    structure = min(scores, key=lambda name: scores[name])
    return Agreement(scores[structure], max(errors), structure)


def _volume(mask: Mask, voxel_volumes: npt.NDArray[np.float64]) -> float:
    return float(mask.sum(axis=(1, 2)) @ voxel_volumes)
