"""Pieces that are no part of a structure: found and given to the next best class, on the network's grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

ONE_PIECE = frozenset(
    {
        "Liver", "Spleen", "Kidney_L", "Kidney_R", "Gallbladder", "Pancreas", "Stomach", "Bladder", "Heart",
        "Lung_L", "Lung_R", "Sacrum", "Pelvis_L", "Pelvis_R", "Femur_L", "Femur_R", "Iliopsoas_L", "Iliopsoas_R",
        "ErectorSpinae_L", "ErectorSpinae_R",
        "Femur", "Tibia", "Fibula", "Patella", "Cartilage_Femur", "Cartilage_Patella", "Lig_ACL", "Lig_PCL",
        "Lig_Patellar",
    }
)  # fmt: skip
"""Structures that are one piece in any field of view; not so the aorta (its arch), the spine and the gluteals."""
ONE_PIECE_SHARE = 0.5
"""Of a structure in ONE_PIECE, pieces below this share of the largest are dropped: two of like size are in doubt."""
OTHER_SHARE = 0.1
"""Of any other structure, pieces below this share of the largest are dropped."""
MINIMUM_MM3 = 100.0
"""Pieces below this volume are dropped whatever they are."""


def tidy(scores: Tensor, names: Sequence[str], voxel_mm3: float) -> None:
    """What scores go through, in place, before they become labels: `clean`, then `silence_absent`."""
    clean(scores, names, voxel_mm3)
    silence_absent(scores)


def clean(scores: Tensor, names: Sequence[str], voxel_mm3: float) -> int:
    """Take pieces that stand alone from their class, in place: their voxels go to the class that scored next.

    Args:
        scores: (C, k, j, i) class scores; changed where a piece is dropped.
        names: Names of the classes 1..C-1.
        voxel_mm3: Volume of a voxel.

    Returns:
        How many voxels were dropped.
    """
    winner = scores.argmax(0).numpy()
    boxes = ndimage.find_objects(winner, max_label=len(names))
    dropped = 0
    for label, (name, box) in enumerate(zip(names, boxes, strict=True), start=1):
        if box is None:
            continue
        share = ONE_PIECE_SHARE if name in ONE_PIECE else OTHER_SHARE
        lost = _small_pieces(winner[box] == label, share, MINIMUM_MM3 / voxel_mm3)
        if lost.any():
            _exchange_with_next(scores[(slice(None), *box)], label, torch.from_numpy(lost))
            dropped += int(lost.sum())
    return dropped


def silence_absent(scores: Tensor) -> None:
    """Lower, in place, the scores of classes that win nowhere, so that they cannot win between grid points either.

    Args:
        scores: (C, k, j, i) class scores; class 0, the background, is left alone.
    """
    wins = torch.bincount(scores.argmax(0).flatten(), minlength=scores.shape[0])
    lowest = float(scores.min()) - 1.0
    for label in range(1, scores.shape[0]):
        if not wins[label]:
            scores[label] = lowest


def _small_pieces(mask: npt.NDArray[np.bool_], share: float, least_voxels: float) -> npt.NDArray[np.bool_]:
    pieces, count = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    small = sizes < max(least_voxels, share * sizes.max())
    small[0] = False
    return np.asarray(small[pieces])


def _exchange_with_next(scores: Tensor, label: int, lost: Tensor) -> None:
    """Exchange a class's scores with those of the runner-up, at the voxels that it loses."""
    there = scores[:, lost]
    own = there[label].clone()
    there[label] = -torch.inf
    best = there.argmax(0)
    points = torch.arange(len(best))
    there[label] = there[best, points]
    there[best, points] = own
    scores[:, lost] = there
