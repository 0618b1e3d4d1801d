"""How sure the network was, on scores whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from dicom_node.segment.sureness import measure_sureness


def _block(height: float) -> torch.Tensor:
    """Scores of three classes, the second winning in a block of 4 x 4 x 4 by `height`."""
    scores = torch.zeros(3, 8, 8, 8)
    scores[0] = 2.0 * height
    scores[1, 2:6, 2:6, 2:6] = 3.0 * height
    return scores


def test_only_what_was_found_is_told() -> None:
    assert set(measure_sureness(_block(1.0), ("Liver", "Spleen"))) == {"Liver"}


def test_probability_inside_is_that_of_the_scores() -> None:
    found = measure_sureness(_block(1.0), ("Liver", "Spleen"))["Liver"]
    assert found.inside == pytest.approx(math.e**3 / (math.e**3 + math.e**2 + 1), abs=1e-3)


def test_entropy_is_that_of_the_rim_alone() -> None:
    scores = _block(1.0)
    scores[1, 3:5, 3:5, 3:5] = 50.0  # the middle is certain, which must not count
    p = torch.tensor([2.0, 3.0, 0.0]).softmax(0)
    expected = float(-(p * p.log()).sum() / math.log(2))
    assert measure_sureness(scores, ("Liver", "Spleen"))["Liver"].rim_entropy == pytest.approx(expected, abs=1e-3)


def test_surer_scores_have_less_entropy() -> None:
    unsure, sure = (measure_sureness(_block(h), ("Liver", "Spleen"))["Liver"].rim_entropy for h in (0.1, 5.0))
    assert sure < 0.1
    assert 1.5 < unsure <= math.log2(3)


def test_faces_of_the_volume_are_no_rim() -> None:
    scores = torch.zeros(2, 3, 3, 3)
    scores[1] = 1.0
    assert measure_sureness(scores, ("Liver",))["Liver"].rim_entropy == 0.0
