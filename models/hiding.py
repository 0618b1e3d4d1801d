"""Tissues that cannot be told apart in one kind of image, so that a pair of images knows more than either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from models.randomness import Randomness
from models.tissues import Tissue

Hidden = Mapping[str, Mapping[Tissue, Tissue]]
"""Image kind -> tissues that look like another one there."""

GROUPS: tuple[tuple[Tissue, ...], ...] = (
    (Tissue.CORTICAL_BONE, Tissue.TRABECULAR_BONE),
    (Tissue.CARTILAGE, Tissue.MENISCUS),
    (Tissue.LIGAMENT,),
    (Tissue.ARTERY, Tissue.VEIN, Tissue.HEART_BLOOD),
    (Tissue.LIVER, Tissue.HEPATIC_VESSEL),
    (Tissue.SPLEEN,),
    (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA),
    (Tissue.STOMACH, Tissue.PANCREAS, Tissue.GALLBLADDER),
    (Tissue.DEEP_MUSCLE,),
    (Tissue.DISC, Tissue.SPINAL_CANAL),
)
"""Tissues that are hidden together."""
_ALIKE = (Tissue.MUSCLE, Tissue.VISCERAL_FAT, Tissue.JOINT_FLUID, Tissue.LIGAMENT)


def hide(tissue: Tensor, like: Mapping[Tissue, Tissue]) -> Tensor:
    """A copy of `tissue` in which some look like others."""
    changed = tissue.clone()
    for hidden, shown in like.items():
        changed[tissue == hidden] = shown
    return changed


def draw_hidden(kinds: Sequence[str], share: float, random: Randomness) -> Hidden:
    """Each group, with the chance `share`, hidden in one of two images; never in both."""
    hidden: dict[str, dict[Tissue, Tissue]] = {kind: {} for kind in kinds}
    for group in GROUPS:
        if random.chance(share):
            others = [tissue for tissue in _ALIKE if tissue not in group]
            shown = others[random.integer(0, len(others))]
            hidden[kinds[random.integer(0, 2)]].update(dict.fromkeys(group, shown))
    return hidden
