"""Stray pieces lose their class; the structures themselves stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dicom_node.imaging.geometry import Geometry
from dicom_node.segment.body import body_box
from dicom_node.segment.cleaning import clean, silence_absent
from dicom_node.segment.grids import axis_aligned
from dicom_node.segment.resampling import to_source

FINE = axis_aligned(np.zeros(3), (4.0, 4.0, 1.0), (20, 20, 77))
NAMES = ("Liver", "A_Aorta", "Spleen")
VOXEL_MM3 = 64.0
GRID = axis_aligned(np.zeros(3), (4.0, 4.0, 4.0), (20, 20, 20))


def scores_of(labels: Tensor, *, second: int = 0) -> Tensor:
    scores = torch.full((4, *labels.shape), -5.0)
    scores[second] = 1.0
    return scores.scatter_(0, labels[None].long(), 5.0)


def labels_with(*blocks: tuple[int, tuple[slice, slice, slice]]) -> Tensor:
    labels = torch.zeros(GRID.shape, dtype=torch.uint8)
    for label, box in blocks:
        labels[box] = label
    return labels


LARGE = (slice(2, 12), slice(2, 12), slice(2, 12))
THIRD = (slice(14, 18), slice(14, 18), slice(2, 18))
SPECK = (slice(0, 1), slice(0, 1), slice(19, 20))


def test_a_second_piece_of_an_organ_goes_to_the_next_best_class() -> None:
    scores = scores_of(labels_with((1, LARGE), (1, THIRD)), second=3)
    assert clean(scores, NAMES, VOXEL_MM3) == 4 * 4 * 16
    winner = scores.argmax(0)
    assert torch.all(winner[LARGE] == 1)
    assert torch.all(winner[THIRD] == 3)


def test_a_vessel_may_have_two_pieces_but_no_specks() -> None:
    scores = scores_of(labels_with((2, LARGE), (2, THIRD), (2, SPECK)))
    assert clean(scores, NAMES, VOXEL_MM3) == 1
    winner = scores.argmax(0)
    assert torch.all(winner[THIRD] == 2)
    assert torch.all(winner[SPECK] == 0)


def test_a_structure_of_one_speck_is_dropped() -> None:
    scores = scores_of(labels_with((3, SPECK)))
    assert clean(scores, NAMES, VOXEL_MM3) == 1
    assert not scores.argmax(0).any()


def test_what_is_clean_is_not_touched() -> None:
    scores = scores_of(labels_with((1, LARGE), (3, THIRD)))
    before = scores.clone()
    assert clean(scores, NAMES, VOXEL_MM3) == 0
    assert torch.equal(scores, before)


def test_a_class_that_wins_nowhere_cannot_win_between_grid_points() -> None:
    scores = torch.zeros((4, *GRID.shape))
    scores[1, :, :, ::2], scores[2, :, :, 1::2], scores[3] = 10.0, 10.0, 8.0
    assert 3 in to_source(scores, GRID, FINE)
    silence_absent(scores)
    assert set(np.unique(to_source(scores, GRID, FINE))) == {1, 2}


def test_the_scores_of_a_voxel_are_only_exchanged() -> None:
    scores = torch.randn((4, *GRID.shape), generator=torch.Generator().manual_seed(0))
    before = scores.clone()
    assert clean(scores, NAMES, VOXEL_MM3) > 0
    assert torch.equal(scores.sort(0).values, before.sort(0).values)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_ct_is_cropped_to_the_body_with_a_margin(modality: str) -> None:
    grid: Geometry = axis_aligned(np.zeros(3), (4.0, 2.0, 8.0), (20, 40, 20))
    image = torch.full(grid.shape, -1000.0)
    image[8:12, 20:25, 10:12] = 40.0
    image[0, 0, 0] = 500.0  # a grain of table
    expected = (slice(4, 16), slice(12, 33), slice(8, 14))
    whole = (slice(0, 20), slice(0, 40), slice(0, 20))
    assert body_box(image, grid, modality) == (expected if modality == "CT" else whole)
    assert body_box(torch.full(grid.shape, -1000.0), grid, modality) == whole
