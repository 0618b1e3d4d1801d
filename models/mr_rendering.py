"""MR signal of rendered tissues, and what a scanner adds.

Half of the images follow plausible contrasts (relative brightness per tissue and sequence, jittered), half are random
Gaussian mixtures: the first teach what MR looks like, the second not to rely on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.deformation import chance, smooth_noise, uniform
from models.tissues import TISSUE_COUNT, Tissue

SEQUENCES = ("t1", "t1_fat_sat", "t1_contrast", "t2", "t2_fat_sat", "bssfp", "pd_fat_sat")
# Relative brightness in the order of SEQUENCES (0 dark, 1 bright).
_SIGNAL: dict[Tissue, tuple[float, ...]] = {
    Tissue.AIR: (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    Tissue.SKIN: (0.50, 0.45, 0.55, 0.45, 0.40, 0.50, 0.45),
    Tissue.SUBCUTANEOUS_FAT: (1.00, 0.20, 0.20, 0.85, 0.18, 0.95, 0.18),
    Tissue.VISCERAL_FAT: (0.95, 0.20, 0.20, 0.80, 0.18, 0.90, 0.18),
    Tissue.MUSCLE: (0.33, 0.42, 0.45, 0.20, 0.22, 0.28, 0.38),
    Tissue.DEEP_MUSCLE: (0.33, 0.42, 0.45, 0.20, 0.22, 0.28, 0.38),
    Tissue.LIVER: (0.48, 0.60, 0.70, 0.28, 0.32, 0.40, 0.45),
    Tissue.HEPATIC_VESSEL: (0.28, 0.30, 0.90, 0.30, 0.40, 0.70, 0.40),
    Tissue.PORTAL_VEIN: (0.28, 0.30, 0.90, 0.30, 0.40, 0.70, 0.40),
    Tissue.SPLEEN: (0.36, 0.42, 0.72, 0.48, 0.60, 0.45, 0.60),
    Tissue.PANCREAS: (0.52, 0.68, 0.72, 0.42, 0.45, 0.42, 0.50),
    Tissue.GALLBLADDER: (0.30, 0.35, 0.35, 0.95, 1.00, 0.95, 0.95),
    Tissue.KIDNEY_CORTEX: (0.42, 0.55, 0.95, 0.58, 0.66, 0.55, 0.65),
    Tissue.KIDNEY_MEDULLA: (0.34, 0.38, 0.80, 0.72, 0.80, 0.62, 0.70),
    Tissue.RENAL_PELVIS: (0.22, 0.22, 0.50, 0.95, 1.00, 0.95, 0.95),
    Tissue.STOMACH: (0.32, 0.38, 0.45, 0.55, 0.60, 0.55, 0.55),
    Tissue.STOMACH_GAS: (0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03),
    Tissue.ARTERY: (0.15, 0.20, 0.95, 0.08, 0.12, 0.85, 0.20),
    Tissue.VEIN: (0.22, 0.28, 0.90, 0.15, 0.22, 0.80, 0.25),
    Tissue.COLON: (0.38, 0.42, 0.48, 0.40, 0.45, 0.45, 0.45),
    Tissue.BOWEL_GAS: (0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04),
    Tissue.SMALL_BOWEL: (0.36, 0.42, 0.65, 0.55, 0.60, 0.60, 0.55),
    Tissue.LUNG: (0.07, 0.07, 0.10, 0.07, 0.09, 0.06, 0.09),
    Tissue.MYOCARDIUM: (0.38, 0.42, 0.60, 0.30, 0.35, 0.35, 0.42),
    Tissue.HEART_BLOOD: (0.20, 0.25, 0.90, 0.15, 0.20, 0.85, 0.25),
    Tissue.CORTICAL_BONE: (0.08, 0.08, 0.08, 0.06, 0.06, 0.06, 0.05),
    Tissue.TRABECULAR_BONE: (0.70, 0.25, 0.35, 0.55, 0.22, 0.50, 0.15),
    Tissue.DISC: (0.35, 0.42, 0.42, 0.55, 0.55, 0.50, 0.55),
    Tissue.SPINAL_CANAL: (0.25, 0.25, 0.30, 0.90, 0.90, 0.90, 0.80),
    Tissue.BLADDER: (0.18, 0.18, 0.25, 1.00, 1.00, 1.00, 1.00),
    Tissue.PELVIC_ORGAN: (0.36, 0.40, 0.62, 0.50, 0.55, 0.45, 0.55),
    Tissue.ADRENAL: (0.38, 0.45, 0.62, 0.35, 0.42, 0.40, 0.45),
    Tissue.MEDIASTINUM: (0.55, 0.40, 0.55, 0.45, 0.35, 0.50, 0.40),
    Tissue.CARTILAGE: (0.45, 0.55, 0.55, 0.50, 0.60, 0.60, 0.72),
    Tissue.MENISCUS: (0.12, 0.14, 0.15, 0.10, 0.10, 0.12, 0.10),
    Tissue.LIGAMENT: (0.13, 0.15, 0.17, 0.10, 0.12, 0.12, 0.13),
    Tissue.FAT_PAD: (0.90, 0.22, 0.25, 0.75, 0.18, 0.85, 0.20),
    Tissue.NERVE: (0.40, 0.40, 0.42, 0.40, 0.42, 0.40, 0.45),
    Tissue.JOINT_FLUID: (0.25, 0.28, 0.30, 0.95, 1.00, 0.95, 1.00),
    Tissue.LESION: (0.30, 0.35, 0.50, 0.70, 0.75, 0.60, 0.65),
    Tissue.MESENTERY: (0.75, 0.25, 0.35, 0.65, 0.25, 0.70, 0.25),
}
_DARK = (Tissue.AIR, Tissue.BOWEL_GAS, Tissue.STOMACH_GAS, Tissue.LUNG, Tissue.CORTICAL_BONE)


def mr_values(generator: torch.Generator, plausible: float) -> tuple[Tensor, Tensor]:
    """Mean and texture amplitude per tissue of one random image; `plausible`: share that looks like a sequence."""
    if chance(plausible, generator):
        column = int(torch.randint(len(SEQUENCES), (), generator=generator))
        mean = torch.tensor([_SIGNAL[t][column] for t in Tissue])
        other = torch.tensor([_SIGNAL[t][(column + 1) % len(SEQUENCES)] for t in Tissue])
        share = uniform(0, 0.3, generator)
        mean = (1 - share) * mean + share * other
        mean = mean * torch.exp(0.18 * torch.randn(TISSUE_COUNT, generator=generator))
        if chance(0.5, generator):  # flow makes vessels dark or bright in any sequence
            flow = uniform(0.05, 1.0, generator)
            mean[Tissue.ARTERY] = flow
            mean[Tissue.VEIN] = flow * uniform(0.6, 1.3, generator)
            mean[Tissue.HEART_BLOOD] = flow
    else:
        mean = torch.rand(TISSUE_COUNT, generator=generator)
        for tissue in _DARK:
            if chance(0.97, generator):
                mean[tissue] = uniform(0, 0.12, generator)
        if chance(0.7, generator):  # fat is one substance
            mean[Tissue.VISCERAL_FAT] = mean[Tissue.SUBCUTANEOUS_FAT] * uniform(0.85, 1.1, generator)
            mean[Tissue.FAT_PAD] = mean[Tissue.SUBCUTANEOUS_FAT]
        if chance(0.8, generator):
            mean[Tissue.DEEP_MUSCLE] = mean[Tissue.MUSCLE]
    mean[Tissue.AIR] = uniform(0, 0.03, generator)
    texture = 0.02 + 0.06 * torch.rand(TISSUE_COUNT, generator=generator)
    texture[Tissue.AIR] = 0.0
    return mean.clamp(0), texture


def scan_mr(image: Tensor, generator: torch.Generator) -> Tensor:
    """Bias field, contrast curve, ghosts, Gibbs ringing and Rician noise on an image (D, H, W) of about 0..1."""
    shape: tuple[int, int, int] = image.shape  # type: ignore[assignment]
    image = image.clamp(min=0)
    bias = smooth_noise(shape, uniform(24, 60, generator), generator)[0]
    image = image * torch.exp(uniform(0, 0.35, generator) * bias)
    image = image ** (2.0 ** uniform(-1.3, 1.0, generator))
    if chance(0.15, generator):  # motion ghost along one in-plane axis
        shift = int(uniform(4, 24, generator))
        image = image + uniform(0.02, 0.1, generator) * torch.roll(image, shift, 1 if chance(0.7, generator) else 2)
    if chance(0.15, generator):
        image = _gibbs(image, uniform(0.55, 0.9, generator))
    sigma = uniform(0.0, 0.06, generator)
    real = image + sigma * torch.randn(shape, generator=generator)
    imaginary = sigma * torch.randn(shape, generator=generator)
    return torch.sqrt(real**2 + imaginary**2)


def _gibbs(image: Tensor, kept: float) -> Tensor:
    """Cut the in-plane spectrum to a share `kept` per axis."""
    spectrum = torch.fft.rfft2(image)
    height, width = image.shape[1:]
    rows = torch.fft.fftfreq(height).abs() <= kept / 2
    columns = torch.fft.rfftfreq(width) <= kept / 2
    cut: Tensor = torch.fft.irfft2(spectrum * (rows[:, None] & columns[None]), s=(height, width))
    return cut.clamp(min=0)


def thick_slices(image: Tensor, factor: float) -> Tensor:
    """Average over slabs of `factor` slices and interpolate back along k."""
    slices = max(2, round(image.shape[0] / factor))
    thick = nn.functional.interpolate(image[None, None], size=(slices, *image.shape[1:]), mode="area")
    return nn.functional.interpolate(thick, size=tuple(image.shape), mode="trilinear", align_corners=False)[0, 0]
