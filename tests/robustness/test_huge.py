"""One object of very many frames is taken in memory that its size bounds; one that lies about their count is held."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.phantoms import PhantomSpec
from tests.robustness.huge import LIES, receive_huge

pytestmark = [pytest.mark.peer, pytest.mark.slow]
MEBIBYTE = 2**20
SOME = 24 * MEBIBYTE
"""What any object costs."""
MANY = PhantomSpec(modality="MR", slices=600, rows=64, columns=64, slice_spacing=0.5, multiframe=True)
LARGE = PhantomSpec(modality="CT", slices=80, rows=512, columns=512, slice_spacing=1.0, multiframe=True)
FEW = replace(MANY, slices=24)
HELD = {
    "half_the_groups": "describes 12 of its 24 frames",
    "twice_the_groups": "describes 48 of its 24 frames",
    "many_frames": "million voxels; at most",
    "half_the_frames": "damaged or cut short",
}


@pytest.mark.parametrize("spec", [MANY, LARGE], ids=["many frames", "large frames"])
def test_memory_is_bounded_by_the_size_of_the_object(spec: PhantomSpec) -> None:
    outcome = receive_huge(spec)
    assert (outcome.taken, outcome.words) == (True, "assembled")
    assert outcome.listener[1] - outcome.listener[0] < 2 * outcome.size + SOME
    assert outcome.worker[1] - outcome.worker[0] < 4 * outcome.size + SOME


@pytest.mark.parametrize("lie", list(LIES))
def test_an_object_that_lies_about_its_frames_is_held_with_the_reason(lie: str) -> None:
    outcome = receive_huge(FEW, LIES[lie])
    assert outcome.taken
    assert HELD[lie] in outcome.words
    assert outcome.worker[1] - outcome.worker[0] < SOME
