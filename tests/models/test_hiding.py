"""What is hidden in one image of a pair is seen in the other."""

from __future__ import annotations

import pytest
import torch

from models.hiding import GROUPS, draw_hidden, hide
from models.randomness import Randomness
from models.tissues import Tissue


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_hidden_in_both(seed: int) -> None:
    hidden = draw_hidden(("CT", "MR"), 0.8, Randomness(seed))
    assert not set(hidden["CT"]) & set(hidden["MR"])
    for group in GROUPS:
        for like in hidden.values():
            assert len({like.get(tissue) for tissue in group}) == 1  # together or not at all


def test_share_decides_how_much_is_hidden() -> None:
    assert not any(draw_hidden(("CT", "MR"), 0.0, Randomness(1)).values())
    everything = draw_hidden(("CT", "MR"), 1.0, Randomness(1))
    assert sum(len(like) for like in everything.values()) == sum(len(group) for group in GROUPS)


def test_hidden_tissue_takes_the_look_of_another_and_the_original_stays() -> None:
    tissue = torch.tensor([Tissue.LIVER, Tissue.SPLEEN, Tissue.MUSCLE])
    found = hide(tissue, {Tissue.LIVER: Tissue.MUSCLE, Tissue.MUSCLE: Tissue.SPLEEN})
    assert found.tolist() == [Tissue.MUSCLE, Tissue.SPLEEN, Tissue.SPLEEN]
    assert tissue.tolist() == [Tissue.LIVER, Tissue.SPLEEN, Tissue.MUSCLE]
