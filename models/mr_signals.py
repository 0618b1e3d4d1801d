"""MR signal from the equations of spin echo, spoiled and balanced gradient echo and inversion recovery.

Relaxation times at 1.5 T, rounded from de Bazelaire 2004 (doi:10.1148/radiol.2303021331) for the abdomen, Gold 2004
(doi:10.2214/ajr.183.2.1830343) for the knee, Stanisz 2005 (doi:10.1002/mrm.20605) for the rest; what none of them
gives is an estimate of the same order. Proton densities are relative to water.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.randomness import Randomness
from models.tissues import TISSUE_COUNT, Tissue

# T1 ms, T2 ms, proton density, share of a contrast agent's effect (blood 1), fat fraction
_RELAXATION: dict[Tissue, tuple[float, float, float, float, float]] = {
    Tissue.AIR: (1000, 1, 0.0, 0, 0),
    Tissue.SKIN: (900, 30, 0.7, 0.2, 0.2),
    Tissue.SUBCUTANEOUS_FAT: (340, 65, 0.9, 0, 0.95),
    Tissue.VISCERAL_FAT: (340, 65, 0.9, 0, 0.9),
    Tissue.MUSCLE: (1000, 45, 0.75, 0.15, 0.03),
    Tissue.DEEP_MUSCLE: (1000, 45, 0.75, 0.15, 0.04),
    Tissue.LIVER: (586, 46, 0.72, 0.5, 0.04),
    Tissue.HEPATIC_VESSEL: (1400, 200, 0.85, 1.0, 0),
    Tissue.PORTAL_VEIN: (1400, 200, 0.85, 1.0, 0),
    Tissue.SPLEEN: (1057, 79, 0.78, 0.6, 0),
    Tissue.PANCREAS: (584, 46, 0.75, 0.6, 0.08),
    Tissue.GALLBLADDER: (2400, 450, 0.95, 0, 0),
    Tissue.KIDNEY_CORTEX: (966, 87, 0.83, 1.0, 0),
    Tissue.KIDNEY_MEDULLA: (1412, 85, 0.85, 0.7, 0),
    Tissue.RENAL_PELVIS: (2800, 700, 0.98, 0.2, 0),
    Tissue.STOMACH: (1300, 110, 0.8, 0.2, 0.02),
    Tissue.STOMACH_GAS: (1000, 1, 0.02, 0, 0),
    Tissue.ARTERY: (1440, 250, 0.85, 1.0, 0),
    Tissue.VEIN: (1440, 180, 0.85, 0.9, 0),
    Tissue.COLON: (800, 75, 0.6, 0.1, 0.05),
    Tissue.BOWEL_GAS: (1000, 1, 0.02, 0, 0),
    Tissue.SMALL_BOWEL: (1200, 100, 0.8, 0.4, 0.02),
    Tissue.LUNG: (1200, 20, 0.12, 0.1, 0),
    Tissue.MYOCARDIUM: (1030, 52, 0.8, 0.5, 0.01),
    Tissue.HEART_BLOOD: (1440, 250, 0.85, 1.0, 0),
    Tissue.CORTICAL_BONE: (300, 1, 0.15, 0, 0.02),
    Tissue.TRABECULAR_BONE: (550, 50, 0.6, 0.05, 0.45),
    Tissue.DISC: (1100, 90, 0.75, 0.02, 0),
    Tissue.SPINAL_CANAL: (2500, 500, 0.95, 0, 0),
    Tissue.BLADDER: (3000, 1000, 1.0, 0, 0),
    Tissue.PELVIC_ORGAN: (1250, 85, 0.8, 0.4, 0.02),
    Tissue.ADRENAL: (700, 60, 0.75, 0.4, 0.1),
    Tissue.MEDIASTINUM: (500, 65, 0.8, 0.2, 0.6),
    Tissue.CARTILAGE: (1060, 42, 0.7, 0.02, 0),
    Tissue.MENISCUS: (900, 8, 0.4, 0.02, 0),
    Tissue.LIGAMENT: (800, 6, 0.35, 0.02, 0),
    Tissue.FAT_PAD: (370, 65, 0.9, 0.02, 0.85),
    Tissue.NERVE: (900, 65, 0.75, 0.02, 0.1),
    Tissue.JOINT_FLUID: (2800, 750, 1.0, 0.05, 0),
    Tissue.LESION: (1150, 110, 0.8, 0.4, 0),
    Tissue.MESENTERY: (500, 65, 0.85, 0.1, 0.7),
    Tissue.METAL: (1000, 1, 0.0, 0, 0),
}


def signals(random: Randomness) -> Tensor:
    """Signal per tissue, at most about 1, of one random sequence with random timing, agent and fat suppression."""
    table = torch.tensor([_RELAXATION[tissue] for tissue in Tissue])
    jitter = torch.exp(0.12 * random.normals(2 * TISSUE_COUNT)).reshape(2, -1)
    t1, t2 = table[:, 0] * jitter[0], table[:, 1] * jitter[1]
    if random.chance(0.35):  # a gadolinium agent; at high dose also T2 shortening
        rate = random.uniform(0.5, 4.0) * table[:, 3] / 1000
        t1, t2 = 1 / (1 / t1 + rate), 1 / (1 / t2 + 1.2 * rate)
    signal = table[:, 2] * _SEQUENCES[random.integer(0, len(_SEQUENCES))](t1, t2, random)
    signal = signal.abs() * (1 - table[:, 4] * random.pick((0.6, 0.4)) * random.uniform(0.7, 1.0))
    scale = float(signal.sort().values[-4])  # a few fluids may be brighter than the window
    return (signal / max(scale, 1e-6)).clamp(0, 1.3)


def _spin_echo(t1: Tensor, t2: Tensor, random: Randomness) -> Tensor:
    repetition, echo = random.log_uniform(350, 6000), random.log_uniform(8, 140)
    return (1 - torch.exp(-repetition / t1)) * torch.exp(-echo / t2)


def _spoiled_gradient_echo(t1: Tensor, t2: Tensor, random: Randomness) -> Tensor:
    repetition, echo = random.log_uniform(3, 200), random.uniform(1, 6)
    flip = math.radians(random.uniform(8, 80))
    recovery = torch.exp(-repetition / t1)
    decay = torch.exp(-echo / (0.6 * t2))  # T2*
    return math.sin(flip) * (1 - recovery) / (1 - math.cos(flip) * recovery) * decay


def _balanced(t1: Tensor, t2: Tensor, random: Randomness) -> Tensor:
    flip = math.radians(random.uniform(35, 75))
    ratio = t1 / t2
    return math.sin(flip) / (1 + math.cos(flip) + (1 - math.cos(flip)) * ratio)


def _inversion_recovery(t1: Tensor, t2: Tensor, random: Randomness) -> Tensor:
    inversion, repetition, echo = random.uniform(120, 900), random.uniform(2500, 6000), random.log_uniform(10, 90)
    return (1 - 2 * torch.exp(-inversion / t1) + torch.exp(-repetition / t1)) * torch.exp(-echo / t2)


_SEQUENCES = (_spin_echo, _spoiled_gradient_echo, _balanced, _inversion_recovery)
