"""Gap or uneven spacing: what the distances between planes prove."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.imaging.spacing import find_gaps


def gaps_of(widths: list[float], thicknesses: list[float] | None = None) -> list[tuple[int, int]]:
    distances = np.cumsum([0.0, *widths])
    found = find_gaps(distances, thicknesses or [None] * len(distances))
    return [(gap.below, gap.missing) for gap in found]


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        pytest.param([5, 5, 10], [(2, 1)], id="one missing, short series"),
        pytest.param([10, 5, 5], [(0, 1)], id="one missing at the start"),
        pytest.param([5, 10, 10], [(1, 1), (2, 1)], id="two missing, in doubt refused"),
        pytest.param([5, 10], [(1, 1)], id="three slices"),
        pytest.param([3] * 8 + [6] + [3] * 8, [(8, 1)], id="one missing in the middle"),
        pytest.param([3] * 8 + [12] + [3] * 8, [(8, 3)], id="three missing in a row"),
        pytest.param([3, 3, 6, 3, 3, 3, 9, 3, 3], [(2, 1), (6, 2)], id="two gaps"),
        pytest.param([3] * 8 + [7.5] + [3] * 8, [(8, 1)], id="no whole multiple, but too wide"),
        pytest.param([2] * 8 + [7] + [5] * 8, [(8, 1)], id="the slice between two blocks is missing"),
        pytest.param([2] * 3 + [4] + [2] * 3 + [5] * 4, [(3, 1)], id="missing within a block of an uneven series"),
        pytest.param([2.5] * 6 + [5] * 6, [(6, 1)], id="every second slice missing from the middle on"),
        pytest.param([2, 3, 4.5, 7], [(2, 1), (3, 3)], id="ever wider"),
    ],
)
def test_gaps(widths: list[float], expected: list[tuple[int, int]]) -> None:
    assert gaps_of(widths) == expected


@pytest.mark.parametrize(
    "widths",
    [
        pytest.param([], id="one slice"),
        pytest.param([5], id="two slices"),
        pytest.param([3] * 20, id="even"),
        pytest.param([3, 3.02, 2.99, 3.01, 3], id="rounded positions"),
        pytest.param([0.3, 0.31, 0.29, 0.3], id="rounded positions of thin slices"),
        pytest.param([2] * 8 + [5] * 8, id="2 then 5 mm"),
        pytest.param([2] * 8 + [3.5] + [5] * 8, id="2 then 5 mm with a step between"),
        pytest.param([5] * 8 + [2] * 8 + [5] * 8, id="5, 2, 5 mm"),
        pytest.param([3] * 8 + [4] + [3] * 8, id="a step of the table"),
        pytest.param([3, 3.2, 3.4], id="slightly uneven, short"),
    ],
)
def test_whole_series(widths: list[float]) -> None:
    assert gaps_of(widths) == []


def test_thicker_slices_prove_that_a_double_distance_is_meant() -> None:
    """Head CT: 2.5 mm through the posterior fossa, 5 mm above."""
    assert gaps_of([2.5] * 6 + [5] * 6, [2.5] * 7 + [5.0] * 6) == []


def test_slices_of_one_thickness_leave_a_double_distance_in_doubt() -> None:
    assert gaps_of([2.5] * 6 + [5] * 6, [2.5] * 13) == [(6, 1)]


def test_every_second_slice_lost_but_for_one_place_is_seen() -> None:
    """Slices 1, 3, 5 and 7 of ten: the four equal distances are no spacing, the last one is."""
    assert gaps_of([2, 2, 2, 2, 1]) == [(0, 1)]


@given(
    count=st.integers(4, 60),
    spacing=st.floats(0.4, 10.0),
    lost=st.data(),
    rounding=st.sampled_from([0.0, 0.001, 0.01]),
)
def test_no_lost_slice_goes_unseen(count: int, spacing: float, lost: st.DataObject, rounding: float) -> None:
    """Any slices but the first and last may be lost, as long as one regular distance is left."""
    jitter = np.random.default_rng(count).uniform(-rounding, rounding, count)
    distances = np.arange(count) * spacing + jitter
    missing = lost.draw(st.sets(st.integers(1, count - 2), min_size=1))
    kept = [k for k in range(count) if k not in missing]
    steps = np.diff(kept)
    if steps.min() > 1:
        return
    found = find_gaps(distances[kept], [spacing] * len(kept))
    assert [gap.below for gap in found][:1] == [int(np.argmax(steps > 1))]


@given(st.integers(2, 60), st.floats(0.4, 10.0), st.sampled_from([0.0, 0.001, 0.01]))
def test_no_whole_series_is_refused(count: int, spacing: float, rounding: float) -> None:
    jitter = np.random.default_rng(count).uniform(-rounding, rounding, count)
    assert find_gaps(np.arange(count) * spacing + jitter, [spacing] * count) == []
