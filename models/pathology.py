"""Disease and surgery in a rendered anatomy: lesions, fatty muscle, osteophytes, implants.

Every function changes `tissue` and `label` (D, H, W) in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.bodies import axis_index
from models.randomness import Randomness
from models.tissues import Tissue

_PARENCHYMA = (Tissue.LIVER, Tissue.SPLEEN, Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA)
_MUSCLES = (Tissue.MUSCLE, Tissue.DEEP_MUSCLE)
_BONES = (Tissue.CORTICAL_BONE, Tissue.TRABECULAR_BONE)
_SOFT = (Tissue.VISCERAL_FAT, Tissue.FAT_PAD, Tissue.JOINT_FLUID, Tissue.MUSCLE, Tissue.SUBCUTANEOUS_FAT)
_FEWEST = 50


def add_lesions(tissue: Tensor, label: Tensor, random: Randomness) -> None:
    """One to three spheres of lesion inside parenchymal organs; their label stays the organ's."""
    organs = _among(tissue, _PARENCHYMA)
    voxels = organs.nonzero()
    if len(voxels) < _FEWEST:
        return
    for _ in range(random.integer(1, 4)):
        centre = voxels[random.integer(0, len(voxels))]
        sphere = _sphere(tissue, centre.tolist(), random.uniform(1.0, 5.0))
        tissue[sphere & organs & (label == label[tuple(centre)])] = Tissue.LESION


def waste_muscles(tissue: Tensor, random: Randomness) -> None:
    """Streaks of fat in the muscles, as of age, disuse and disease; their label stays the muscle's."""
    muscles = _among(tissue, _MUSCLES)
    streaks = random.smooth(tissue.shape, random.uniform(1.5, 4.0))[0] > random.uniform(0.3, 1.8)
    tissue[muscles & streaks] = Tissue.VISCERAL_FAT


def grow_osteophytes(tissue: Tensor, label: Tensor, random: Randomness) -> None:
    """Spurs on the bones: here and there a layer of soft tissue beside a labelled bone becomes that bone."""
    bones = _among(tissue, _BONES) & (label > 0)
    number = torch.where(bones, label, torch.zeros_like(label)).float()
    grown = nn.functional.max_pool3d(number[None, None], 3, 1, 1)[0, 0].long()
    spurs = (grown > 0) & _among(tissue, _SOFT) & (random.smooth(tissue.shape, 5)[0] > random.uniform(0.8, 2.0))
    tissue[spurs] = Tissue.CORTICAL_BONE
    label[spurs] = grown[spurs]


def implant(tissue: Tensor, random: Randomness) -> None:
    """A rod and a ball of metal in a bone, as of a hip or knee replacement or a screw; the label stays the bone's."""
    bones = _among(tissue, _BONES)
    voxels = bones.nonzero()
    if len(voxels) < _FEWEST:
        return
    centre = voxels[random.integer(0, len(voxels))].tolist()
    metal = _sphere(tissue, centre, random.uniform(1.0, 6.0))
    across = (axis_index(tissue, 1) - centre[1]).square() + (axis_index(tissue, 2) - centre[2]).square()
    along = axis_index(tissue, 0) - centre[0]
    metal = metal | ((across <= random.uniform(0.5, 2.5) ** 2) & (along.abs() <= random.uniform(2.0, 16.0)))
    tissue[metal & bones] = Tissue.METAL


def _among(tissue: Tensor, kinds: Sequence[Tissue]) -> Tensor:
    return torch.isin(tissue, torch.tensor(kinds, device=tissue.device))


def _sphere(volume: Tensor, centre: Sequence[int], radius: float) -> Tensor:
    squares = [(axis_index(volume, axis) - c).square() for axis, c in enumerate(centre)]
    return squares[0] + squares[1] + squares[2] <= radius**2
