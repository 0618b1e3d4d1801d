"""CT numbers of rendered tissues, and what a scanner adds."""

from __future__ import annotations

import torch
from torch import Tensor

from models.bodies import axis_index
from models.randomness import Randomness
from models.tissues import TISSUE_COUNT, Tissue

# HU without contrast, in the arterial, the portal venous and the late phase; literature values, rounded.
_HU: dict[Tissue, tuple[float, float, float, float]] = {
    Tissue.AIR: (-1000, -1000, -1000, -1000),
    Tissue.SKIN: (10, 15, 25, 25),
    Tissue.SUBCUTANEOUS_FAT: (-105, -105, -105, -105),
    Tissue.VISCERAL_FAT: (-95, -95, -92, -92),
    Tissue.MUSCLE: (50, 55, 62, 60),
    Tissue.DEEP_MUSCLE: (50, 55, 62, 60),
    Tissue.LIVER: (58, 68, 108, 92),
    Tissue.HEPATIC_VESSEL: (42, 60, 150, 110),
    Tissue.PORTAL_VEIN: (42, 80, 165, 115),
    Tissue.METAL: (3000, 3000, 3000, 3000),
    Tissue.SPLEEN: (48, 115, 120, 98),
    Tissue.PANCREAS: (40, 95, 95, 75),
    Tissue.GALLBLADDER: (10, 10, 12, 12),
    Tissue.KIDNEY_CORTEX: (32, 160, 190, 150),
    Tissue.KIDNEY_MEDULLA: (30, 60, 160, 160),
    Tissue.RENAL_PELVIS: (5, 8, 15, 500),
    Tissue.STOMACH: (25, 30, 35, 35),
    Tissue.STOMACH_GAS: (-850, -850, -850, -850),
    Tissue.ARTERY: (42, 320, 160, 115),
    Tissue.VEIN: (42, 90, 140, 115),
    Tissue.COLON: (25, 25, 28, 28),
    Tissue.BOWEL_GAS: (-800, -800, -800, -800),
    Tissue.SMALL_BOWEL: (28, 55, 60, 45),
    Tissue.LUNG: (-830, -825, -820, -820),
    Tissue.MYOCARDIUM: (45, 95, 105, 90),
    Tissue.HEART_BLOOD: (42, 250, 150, 110),
    Tissue.CORTICAL_BONE: (650, 650, 650, 650),
    Tissue.TRABECULAR_BONE: (190, 190, 195, 195),
    Tissue.DISC: (80, 80, 85, 85),
    Tissue.SPINAL_CANAL: (28, 28, 30, 30),
    Tissue.BLADDER: (5, 5, 8, 180),
    Tissue.PELVIC_ORGAN: (42, 60, 80, 75),
    Tissue.ADRENAL: (25, 60, 70, 50),
    Tissue.MEDIASTINUM: (10, 30, 35, 30),
    Tissue.CARTILAGE: (80, 80, 85, 85),
    Tissue.MENISCUS: (95, 95, 100, 100),
    Tissue.LIGAMENT: (90, 90, 95, 95),
    Tissue.FAT_PAD: (-85, -85, -80, -80),
    Tissue.NERVE: (25, 25, 30, 30),
    Tissue.JOINT_FLUID: (15, 15, 18, 18),
    Tissue.LESION: (30, 50, 55, 55),
    Tissue.MESENTERY: (-70, -65, -60, -60),
}
_SPREAD = {
    Tissue.LIVER: 14, Tissue.SPLEEN: 12, Tissue.ARTERY: 50, Tissue.CORTICAL_BONE: 220, Tissue.TRABECULAR_BONE: 80,
    Tissue.LUNG: 55, Tissue.LESION: 40, Tissue.STOMACH: 45, Tissue.COLON: 70, Tissue.SMALL_BOWEL: 35, Tissue.BLADDER:
    15, Tissue.RENAL_PELVIS: 60, Tissue.KIDNEY_CORTEX: 25, Tissue.KIDNEY_MEDULLA: 30, Tissue.HEART_BLOOD: 35,
    Tissue.BOWEL_GAS: 120, Tissue.STOMACH_GAS: 100, Tissue.AIR: 5,
}  # fmt: skip
_TEXTURE = {
    Tissue.AIR: 0.0, Tissue.LUNG: 70.0, Tissue.CORTICAL_BONE: 220.0, Tissue.TRABECULAR_BONE: 90.0, Tissue.COLON: 60.0,
    Tissue.SMALL_BOWEL: 30.0, Tissue.STOMACH: 30.0, Tissue.VISCERAL_FAT: 18.0, Tissue.MESENTERY: 35.0,
    Tissue.PANCREAS: 22.0, Tissue.MUSCLE: 20.0, Tissue.DEEP_MUSCLE: 16.0, Tissue.BOWEL_GAS: 60.0,
}  # fmt: skip


def ct_values(random: Randomness, *, unseen: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and texture amplitude in HU per tissue of one random patient and contrast phase.

    `unseen`: values outside what training draws: every soft tissue shifted and enhanced beyond its phase, as of another
    tube voltage or agent.
    """
    phase = random.pick((0.3, 0.2, 0.4, 0.1))
    spread = torch.tensor([_SPREAD.get(tissue, 10) for tissue in Tissue], dtype=torch.float32)
    mean = torch.tensor([_HU[tissue][phase] for tissue in Tissue], dtype=torch.float32)
    mean = mean + random.normals(TISSUE_COUNT) * spread
    texture = torch.tensor([_TEXTURE.get(tissue, 9.0) for tissue in Tissue])
    if random.chance(0.9):  # or the muscles with a label could be told from the others by their value
        mean[Tissue.DEEP_MUSCLE] = mean[Tissue.MUSCLE] + random.uniform(-2, 2)
        texture[Tissue.DEEP_MUSCLE] = texture[Tissue.MUSCLE]
    if random.chance(0.15):  # fatty liver
        mean[Tissue.LIVER] -= random.uniform(20, 60)
    if random.chance(0.15):  # iron, or a dense liver
        mean[Tissue.LIVER] += random.uniform(10, 30)
    if random.chance(0.25):  # oral contrast
        mean[Tissue.STOMACH] = random.uniform(80, 450)
        mean[Tissue.SMALL_BOWEL] = random.uniform(60, 400)
    if random.chance(0.25):
        mean[Tissue.COLON] = random.uniform(-250, 450)
    if random.chance(0.2):  # osteopenia
        mean[Tissue.TRABECULAR_BONE] -= random.uniform(40, 120)
    enhanced = torch.tensor([_HU[tissue][phase] - _HU[tissue][0] for tissue in Tissue])
    if phase != 0:  # enhancement differs between patients
        mean += (random.uniform(0.65, 1.15) - 1) * enhanced
    if unseen:
        mean = torch.where(mean.abs() < 300, 1.35 * mean + random.normals(TISSUE_COUNT) * 2 * spread, mean)
        mean += random.uniform(0.3, 0.6) * enhanced
    return mean, texture * random.uniform(0.6, 1.4)


def scan_ct(image: Tensor, metal: Tensor, random: Randomness) -> Tensor:
    """Noise, beam hardening, streaks of `metal` and the clipping of a stored CT on an image (D, H, W) in HU."""
    noise = random.log_uniform(2, 35)
    if random.chance(0.5):  # smooth kernels leave correlated noise
        image = image + noise * random.smooth(image.shape, 1.6)[0]
    else:
        image = image + noise * random.noise(image.shape)
    if random.chance(0.2):
        image = image + random.uniform(0, 15) * random.smooth(image.shape, 24)[0]
    if bool(metal.any()):
        image = _streaks(image, metal, random)
    return image.clamp(-1024, 3071)


def _streaks(image: Tensor, metal: Tensor, random: Randomness) -> Tensor:
    """Bright and dark rays about the metal, in its axial planes."""
    k, j, i = (float(c) for c in metal.nonzero().float().mean(0))
    levels = metal.any(2).any(1)[:, None, None]
    rows, columns = axis_index(image, 1) - j, axis_index(image, 2) - i
    distance = torch.sqrt(rows.float() ** 2 + columns.float() ** 2)
    angle = torch.atan2(rows.float(), columns.float())
    ray = torch.cos(angle * random.integer(2, 8) + random.uniform(0, 6.28))
    rays = random.uniform(50, 500) * ray * torch.exp(-distance / random.uniform(5, 20))
    faint = torch.exp(-(((axis_index(image, 0) - k) / 4.0) ** 2))
    return image + rays * torch.where(levels, torch.ones_like(faint), 0.3 * faint)
