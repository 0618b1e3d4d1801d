"""What a deformed anatomy gets before it is imaged: fat, contents of hollow organs, arms, the couch.

Every function changes `tissue` and `label` (D, H, W) in place; lengths are in voxels unless a spacing is given.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.randomness import Randomness
from models.tissues import Tissue

_PARTED: tuple[tuple[tuple[Tissue, ...], float], ...] = (
    ((Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA, Tissue.RENAL_PELVIS), 9.0),
    ((Tissue.LIVER, Tissue.HEPATIC_VESSEL), 7.0),
    ((Tissue.SPLEEN,), 7.0),
    ((Tissue.STOMACH, Tissue.STOMACH_GAS), 7.0),
    ((Tissue.PANCREAS,), 3.0),
    ((Tissue.DEEP_MUSCLE,), 4.0),
    ((Tissue.COLON, Tissue.BOWEL_GAS), 12.0),
    ((Tissue.SMALL_BOWEL,), 14.0),
)
"""Tissues of an organ, and the depth in mm to which fat may take the place of its rim."""
_CROWDED = (Tissue.ARTERY, Tissue.VEIN, Tissue.LIVER, Tissue.SPLEEN, Tissue.DEEP_MUSCLE, Tissue.CORTICAL_BONE)
"""Tissues beside which muscle may lie: crura, diaphragm, wall."""


def shape_of(volume: Tensor) -> tuple[int, int, int]:
    """(D, H, W) of a volume."""
    depth, height, width = volume.shape
    return depth, height, width


def axis_index(volume: Tensor, axis: int) -> Tensor:
    """Index along one axis, broadcast against the volume."""
    shape = [1, 1, 1]
    shape[axis] = volume.shape[axis]
    return torch.arange(volume.shape[axis], device=volume.device).reshape(shape)


def grow_fat(
    tissue: Tensor, label: Tensor, outside: Tensor, spacing: float, limits: tuple[float, float], random: Randomness
) -> None:
    """Subcutaneous fat of random, uneven thickness (`limits` in mm) and a skin around the core; air beyond."""
    limit = random.log_uniform(*limits) * torch.exp(0.35 * random.smooth(tissue.shape, 20)[0]).clamp(0.3, 1.8)
    grown = (tissue == Tissue.AIR) & (outside > 0)
    tissue[grown & (outside <= limit)] = Tissue.SUBCUTANEOUS_FAT
    tissue[grown & (outside <= limit) & (outside > limit - 0.6 * spacing)] = Tissue.SKIN
    beyond = grown & (outside > limit)
    label[beyond] = label[beyond].clamp(max=0)


def raise_diaphragm(tissue: Tensor, label: Tensor, random: Randomness) -> None:
    """At times fat where the lowest lung is: bodies differ in the fat under the diaphragm."""
    if not random.chance(0.35):
        return
    lung = tissue == Tissue.LUNG
    levels = lung.any(2).any(1).nonzero()
    if not len(levels) or int(levels[0]) == 0:  # the diaphragm is not in the patch
        return
    low, high = int(levels[0]), int(levels[-1])
    edge = low + random.uniform(0.1, 0.9) * min(high - low, 15)
    raised = lung & (axis_index(tissue, 0) < edge + 2 * random.smooth(tissue.shape, 8)[0])
    tissue[raised] = Tissue.VISCERAL_FAT
    label[raised] = 0


def grow_visceral_fat(tissue: Tensor, label: Tensor, spacing: float, random: Randomness, stout: float = 0.0) -> None:
    """Fat between the organs, in place of their rims and of the mesentery: the maps are of lean bodies.

    `stout`: share of bodies in which it lies deep around every organ, as around the kidneys of an obese patient.
    """
    is_stout = random.chance(stout)
    uneven = random.smooth(tissue.shape, 24 / spacing)[0]
    for organ, deepest in _PARTED:
        others = ~torch.isin(tissue, torch.tensor(organ, device=tissue.device))
        depth = random.uniform(0.3, 1.0) * deepest if is_stout else random.uniform(0, deepest)
        covered = random.uniform(-4, -1.5) if is_stout else random.uniform(-4, 1)
        rim = _beside(others, depth / spacing, random) & (uneven > covered)
        tissue[rim] = Tissue.VISCERAL_FAT
        label[rim] = label[rim].clamp(max=0)
    if is_stout or random.chance(0.6):
        tissue[tissue == Tissue.MESENTERY] = Tissue.VISCERAL_FAT


def crowd_organs(tissue: Tensor, spacing: float, random: Randomness) -> None:
    """Muscle in place of fat beside vessels, organs and bones: the maps lack crura, diaphragm and much of the wall."""
    uneven = random.smooth(tissue.shape, 24 / spacing)[0]
    for kind in _CROWDED:
        beside = _beside(tissue == kind, random.uniform(0, 8) / spacing, random) & (uneven > random.uniform(-2, 2))
        tissue[beside & (tissue == Tissue.VISCERAL_FAT)] = Tissue.MUSCLE


def _beside(mask: Tensor, depth: float, random: Randomness) -> Tensor:
    """What lies within `depth` voxels (rounded by chance) of a mask and not in it."""
    near = mask[None, None].float()
    for _ in range(int(depth) + random.chance(depth % 1)):
        near = nn.functional.max_pool3d(near, 3, 1, 1)
    return (near[0, 0] > 0) & ~mask


def fill_contents(tissue: Tensor, random: Randomness) -> None:
    """Gas and contents of hollow organs, loops and strands in the visceral fat."""
    noise = random.smooth(tissue.shape, 4, 3)
    rows = axis_index(tissue, 1)
    front = 0.6 - 1.2 * rows / max(1, tissue.shape[1] - 1)  # gas rises to the front of a supine patient
    for organ, gas in ((Tissue.COLON, Tissue.BOWEL_GAS), (Tissue.STOMACH, Tissue.STOMACH_GAS)):
        threshold = random.uniform(0.2, 2.5)
        tissue[(tissue == organ) & (noise[0] + front > threshold)] = gas
    tissue[(tissue == Tissue.COLON) & (noise[1] > random.uniform(-0.5, 1.5))] = Tissue.SMALL_BOWEL
    fat = tissue == Tissue.VISCERAL_FAT
    tissue[fat & (noise[2] > random.uniform(0.5, 2.5))] = Tissue.SMALL_BOWEL
    tissue[fat & (noise[2] < -random.uniform(0.5, 2.5))] = Tissue.MESENTERY
    if random.chance(0.5):  # the renal sinus holds fat around its vessels and calyces
        tissue[(tissue == Tissue.RENAL_PELVIS) & (noise[0] > random.uniform(-2, 1))] = Tissue.VISCERAL_FAT
    lung = tissue == Tissue.LUNG
    tissue[lung & (noise[1] > 1.9)] = Tissue.VEIN
    if random.chance(0.1):  # effusion or atelectasis at the back
        tissue[lung & (rows > tissue.shape[1] * random.uniform(0.6, 0.8))] = Tissue.SPLEEN


def add_arms(tissue: Tensor, label: Tensor, spacing: float, random: Randomness) -> None:
    """Arms beside the body, where air is."""
    columns = (tissue != Tissue.AIR).any(0).any(0).nonzero()
    if not len(columns):
        return
    rows, across = axis_index(tissue, 1)[0].float(), axis_index(tissue, 2)[0].float()
    radius = random.uniform(30, 52) / spacing
    gap = random.uniform(-0.2, 0.6) * radius
    j = random.uniform(0.35, 0.7) * tissue.shape[1]
    for i in (float(columns[0]) - gap - radius, float(columns[-1]) + gap + radius):
        distance = torch.sqrt((rows - j) ** 2 * random.uniform(0.6, 1.4) + (across - i) ** 2)
        free = (tissue == Tissue.AIR) & (distance <= radius)[None]
        fat = random.uniform(3, 14) / spacing
        layers = torch.where(distance > radius - fat, int(Tissue.SUBCUTANEOUS_FAT), int(Tissue.MUSCLE))
        layers = torch.where(distance < 11 / spacing, int(Tissue.CORTICAL_BONE), layers)
        layers = torch.where(distance < 6 / spacing, int(Tissue.TRABECULAR_BONE), layers)
        tissue[free] = layers.expand_as(tissue)[free]
        label[free] = 0


def add_table(image: Tensor, tissue: Tensor, random: Randomness) -> None:
    """A curved couch behind the body, in HU."""
    rows = (tissue != Tissue.AIR).any(0).any(1).nonzero()
    height, width = tissue.shape[1:]
    back = int(rows[-1]) if len(rows) else height - 1
    across = torch.linspace(-1, 1, width, device=image.device)
    j = back + random.uniform(0.5, 4) - random.uniform(-2, 12) * across.square()
    offset = axis_index(tissue, 1)[0].float() - j[None]
    shell = ((offset >= 0) & (offset < random.uniform(1, 2.5)))[None] & (tissue == Tissue.AIR)
    foam = ((offset >= 2.5) & (offset < random.uniform(3, 9)))[None] & (tissue == Tissue.AIR)
    image[shell] = random.uniform(-700, 150)
    image[foam] = random.uniform(-980, -800)
