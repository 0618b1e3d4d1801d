"""CT numbers of rendered tissues, and what a scanner adds."""

from __future__ import annotations

import torch
from torch import Tensor

from models.deformation import chance, smooth_noise, uniform
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


def ct_values(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean and texture amplitude in HU per tissue of one random patient and contrast phase."""
    phase = int(torch.multinomial(torch.tensor([0.3, 0.2, 0.4, 0.1]), 1, generator=generator))
    mean = torch.zeros(TISSUE_COUNT)
    texture = torch.full((TISSUE_COUNT,), 9.0)
    for tissue, values in _HU.items():
        mean[tissue] = values[phase] + float(torch.randn((), generator=generator)) * _SPREAD.get(tissue, 10)
        texture[tissue] = _TEXTURE.get(tissue, 9.0)
    if chance(0.15, generator):  # fatty liver
        mean[Tissue.LIVER] -= uniform(20, 60, generator)
    if chance(0.15, generator):  # iron, or a dense liver
        mean[Tissue.LIVER] += uniform(10, 30, generator)
    if chance(0.25, generator):  # oral contrast
        mean[Tissue.STOMACH] = uniform(80, 450, generator)
        mean[Tissue.SMALL_BOWEL] = uniform(60, 400, generator)
    if chance(0.25, generator):
        mean[Tissue.COLON] = uniform(-250, 450, generator)
    if chance(0.2, generator):  # osteopenia
        mean[Tissue.TRABECULAR_BONE] -= uniform(40, 120, generator)
    if phase != 0:  # enhancement differs between patients: mix with the native values
        share = uniform(0.65, 1.15, generator)
        native = torch.tensor([_HU[t][0] if t in _HU else 0.0 for t in Tissue])
        enhanced = torch.tensor([_HU[t][phase] - _HU[t][0] if t in _HU else 0.0 for t in Tissue])
        mean += (share - 1) * enhanced + 0 * native
    return mean, texture * uniform(0.6, 1.4, generator)


def scan_ct(image: Tensor, generator: torch.Generator) -> Tensor:
    """Noise, beam hardening's slow shading and the clipping of a stored CT on an image (D, H, W) in HU."""
    shape: tuple[int, int, int] = image.shape  # type: ignore[assignment]
    noise = uniform(2, 35, generator)
    if chance(0.5, generator):  # smooth kernels leave correlated noise
        image = image + noise * smooth_noise(shape, 1.6, generator)[0]
    else:
        image = image + noise * torch.randn(shape, generator=generator)
    if chance(0.2, generator):
        image = image + uniform(0, 15, generator) * smooth_noise(shape, 24, generator)[0]
    if chance(0.06, generator):
        image = _metal(image, generator)
    return image.clamp(-1024, 3071)


def _metal(image: Tensor, generator: torch.Generator) -> Tensor:
    """A dense implant in bone, with streaks along its axial planes."""
    bones = (image > 300).nonzero()
    if len(bones) < 50:
        return image
    k, j, i = bones[int(torch.randint(len(bones), (), generator=generator))].tolist()
    depth, height, width = image.shape
    rows = torch.arange(height)[:, None] - j
    columns = torch.arange(width)[None, :] - i
    distance = torch.sqrt(rows.float() ** 2 + columns.float() ** 2)
    angle = torch.atan2(rows.float(), columns.float())
    streak = torch.cos(angle * 6 + uniform(0, 6.28, generator)) * 300 * torch.exp(-distance / 10)
    low, high = max(0, k - 6), min(depth, k + 7)
    image = image.clone()
    image[low:high] += streak
    image[low:high][:, distance < uniform(1.5, 3.5, generator)] = 3000
    return image
