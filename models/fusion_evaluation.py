"""What a registered CT and MR pair brings, where bone shows only in the CT and cartilage only in the MR."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.hiding import Hidden
from models.label_maps import LabelMap
from models.network import SharedNetwork
from models.rendered_evaluation import RenderedTest, rendered_dice
from models.rendering import RenderingSettings
from models.tissues import Tissue

HIDDEN: Hidden = {
    "CT": {Tissue.CARTILAGE: Tissue.JOINT_FLUID, Tissue.MENISCUS: Tissue.JOINT_FLUID},
    "MR": {Tissue.CORTICAL_BONE: Tissue.LIGAMENT, Tissue.TRABECULAR_BONE: Tissue.FAT_PAD},
}
"""In CT cartilage looks like the fluid around it, in MR bone like ligaments and fat."""
GROUPS = {
    "bone": ("Femur", "Tibia", "Patella"),
    "cartilage": ("Cartilage_Femur", "Cartilage_Tibia", "Cartilage_Patella"),
}
SHIFTS_MM = (0.0, 1.0, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class FusionRow:
    """Mean Dice of bones and of cartilages from one set of images, the MR displaced by some mm."""

    images: str
    shift_mm: float
    bone: float
    cartilage: float


def fusion_table(
    network: SharedNetwork,
    sources: Iterable[LabelMap],
    structures: Sequence[str],
    settings: RenderingSettings,
    shape: tuple[int, int, int],
    *,
    images: int = 12,
) -> list[FusionRow]:
    """CT alone, MR alone, and both over `SHIFTS_MM` of misregistration, all of the same bodies.

    Raises:
        ValueError: The structures hold no bone or no cartilage.
    """
    maps = list(sources)
    if not all(set(names) & set(structures) for names in GROUPS.values()):
        raise ValueError("expected a card with bones and cartilages, such as knee")

    def row(kinds: tuple[str, ...], shift_mm: float) -> FusionRow:
        test = RenderedTest(kinds, shape, images, shift_mm=shift_mm, hidden=HIDDEN)
        dice = rendered_dice(network, maps, structures, settings, test)
        bone, cartilage = (float(np.mean([dice[name] for name in names if name in dice])) for names in GROUPS.values())
        return FusionRow("+".join(kinds), shift_mm, bone, cartilage)

    singles = [row(("CT",), 0.0), row(("MR",), 0.0)]
    return singles + [row(("CT", "MR"), shift) for shift in SHIFTS_MM]
