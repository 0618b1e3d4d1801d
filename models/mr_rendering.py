"""MR signal of rendered tissues, and what a scanner adds.

Some images follow plausible contrasts (relative brightness per tissue and sequence, jittered), some the signal
equations of `models.mr_signals`, the rest are random Gaussian mixtures: the first teach what MR looks like, the last
not to rely on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.bodies import axis_index
from models.mr_signals import signals
from models.randomness import Randomness
from models.standardisation import quantiles
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
    Tissue.METAL: (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
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
_DARK = (Tissue.AIR, Tissue.BOWEL_GAS, Tissue.STOMACH_GAS, Tissue.LUNG, Tissue.CORTICAL_BONE, Tissue.METAL)


def mr_values(
    random: Randomness,
    plausible: float,
    equations: float,
    *,
    sequences: Sequence[str] = SEQUENCES,
    unseen: bool = False,
) -> tuple[Tensor, Tensor]:
    """Mean and texture amplitude per tissue of one random image.

    `plausible`, `equations`: shares that look like one of the usual `sequences`, and that follow the signal equations
    with random timing; the rest are random mixtures. `unseen`: sequences of the first kind with their brightness
    inverted, which training never draws.
    """
    drawn = random.uniform(0, 1)
    if unseen:
        mean = 1.0 - _usual_sequence(random, sequences)
        _darken(mean, random, 1.0)
    elif drawn < plausible:
        mean = _usual_sequence(random, sequences)
    elif drawn < plausible + equations:
        mean = signals(random)
    else:
        mean = _mixture(random)
    if unseen or drawn < plausible + equations:
        _let_flow(mean, random)
    _unite_kinds(mean, random)
    mean[Tissue.AIR] = random.uniform(0, 0.03)
    texture = 0.02 + 0.06 * random.uniforms(TISSUE_COUNT)
    texture[Tissue.AIR] = 0.0
    return mean.clamp(0), texture


def _usual_sequence(random: Randomness, sequences: Sequence[str]) -> Tensor:
    column = SEQUENCES.index(sequences[random.integer(0, len(sequences))])
    mean = torch.tensor([_SIGNAL[t][column] for t in Tissue])
    other = torch.tensor([_SIGNAL[t][(column + 1) % len(SEQUENCES)] for t in Tissue])
    share = random.uniform(0, 0.3)
    mean = ((1 - share) * mean + share * other) * torch.exp(0.18 * random.normals(TISSUE_COUNT))
    _unite_fat(mean, random)
    return mean


def _unite_fat(mean: Tensor, random: Randomness) -> None:
    """Fat is one substance wherever it lies. In place."""
    mean[Tissue.VISCERAL_FAT] = mean[Tissue.SUBCUTANEOUS_FAT] * random.uniform(0.85, 1.1)
    mean[Tissue.FAT_PAD] = mean[Tissue.SUBCUTANEOUS_FAT] * random.uniform(0.9, 1.1)


def _unite_kinds(mean: Tensor, random: Randomness) -> None:
    """What is one substance looks alike, mostly, wherever it lies, or its label could be read off its brightness.

    In place.
    """
    if random.chance(0.9):
        mean[Tissue.DEEP_MUSCLE] = mean[Tissue.MUSCLE] * random.uniform(0.97, 1.03)
    if random.chance(0.7):
        for vein in (Tissue.PORTAL_VEIN, Tissue.HEPATIC_VESSEL):
            mean[vein] = mean[Tissue.VEIN] * random.uniform(0.9, 1.1)


def _mixture(random: Randomness) -> Tensor:
    mean = random.uniforms(TISSUE_COUNT)
    _darken(mean, random, 0.97)
    if random.chance(0.7):
        _unite_fat(mean, random)
    return mean


def _darken(mean: Tensor, random: Randomness, probability: float) -> None:
    """Air, gas, lung, cortex and metal give hardly any signal. In place."""
    for tissue in _DARK:
        if random.chance(probability):
            mean[tissue] = random.uniform(0, 0.12)


def _let_flow(mean: Tensor, random: Randomness) -> None:
    """Flow makes vessels dark or bright in any sequence. In place."""
    if random.chance(0.5):
        flow = random.uniform(0.05, 1.0)
        mean[Tissue.ARTERY] = flow
        mean[Tissue.VEIN] = flow * random.uniform(0.6, 1.3)
        mean[Tissue.HEART_BLOOD] = flow


def scan_mr(image: Tensor, random: Randomness) -> Tensor:
    """Bias field, contrast curve, ghosts, Gibbs ringing and Rician noise on an image (D, H, W) of about 0..1."""
    image = image.clamp(min=0)
    bias = random.smooth(image.shape, random.uniform(24, 60))[0]
    image = image * torch.exp(random.uniform(0, 0.35) * bias)
    if random.chance(0.2):
        image = image * _coil(image, random)
    if random.chance(0.3):  # some scanners and consoles cut the darkest signal off
        image = (image - random.uniform(0, 0.25)).clamp(min=0)
    image = image ** (2.0 ** random.uniform(-1.0, 1.6))
    if random.chance(0.15):  # motion ghost along one in-plane axis
        shift = int(random.uniform(4, 24))
        image = image + random.uniform(0.02, 0.1) * torch.roll(image, shift, 1 if random.chance(0.7) else 2)
    if random.chance(0.15):
        image = _gibbs(image, random.uniform(0.55, 0.9))
    bright = quantiles(image, (0.95,))[0]
    sigma = 0.09 * bright * random.uniform(0.0, 1.0) ** 2 if random.chance(0.75) else 0.0
    real = image + sigma * random.noise(image.shape)
    imaginary = sigma * random.noise(image.shape)
    return torch.sqrt(real**2 + imaginary**2)


def _coil(image: Tensor, random: Randomness) -> Tensor:
    """Fall-off of a surface coil in front of, behind or beside the body: from 1 down to a tenth at the far side."""
    axis = random.integer(1, 3)
    across = axis_index(image, axis) / max(1, image.shape[axis] - 1)
    depth = across if random.chance(0.5) else 1 - across
    return torch.exp(-random.uniform(0.3, 2.3) * depth)


def _gibbs(image: Tensor, kept: float) -> Tensor:
    """Cut the in-plane spectrum to a share `kept` per axis."""
    spectrum = torch.fft.rfft2(image)
    height, width = image.shape[1:]
    rows = torch.fft.fftfreq(height, device=image.device).abs() <= kept / 2
    columns = torch.fft.rfftfreq(width, device=image.device) <= kept / 2
    cut: Tensor = torch.fft.irfft2(spectrum * (rows[:, None] & columns[None]), s=(height, width))
    return cut.clamp(min=0)


def thick_slices(image: Tensor, factor: float) -> Tensor:
    """Average over slabs of `factor` slices and interpolate back along k."""
    slices = max(2, round(image.shape[0] / factor))
    thick = nn.functional.interpolate(image[None, None], size=(slices, *image.shape[1:]), mode="area")
    return nn.functional.interpolate(thick, size=tuple(image.shape), mode="trilinear", align_corners=False)[0, 0]
