"""Very many very small images are taken and looked at in bounded memory."""

from __future__ import annotations

import pytest

from tests.robustness.tiny import receive_tiny

MEBIBYTE = 2**20
MOST_OF_A_LISTENER = 32 * MEBIBYTE
MOST_OF_AN_IMAGE = 8 * 1024
"""Growth of the process that looks at a series; the headers of all images together would take four times as much."""


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize("series", [1, 300])
def test_thousands_of_tiny_images_grow_neither_the_listener_nor_the_look_at_them(series: int) -> None:
    received, looked = receive_tiny(3000, series)
    assert received.refused == 0
    assert received.resident[1] - received.resident[0] < MOST_OF_A_LISTENER
    assert looked.resident[1] - looked.resident[0] < 3000 * MOST_OF_AN_IMAGE
    assert looked.states == {"waiting": series}
