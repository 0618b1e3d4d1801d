"""Contours as a destination takes them: limits of points, tolerance, smooth where there is a certainty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from dicom_node.anatomy import load_anatomy
from dicom_node.imaging.certainty import Certainty
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.profiles import Profile
from dicom_node.results.drawing import contours_of
from dicom_node.results.filling import fill_even_odd
from tests.phantoms import PhantomSpec, geometry_of

GEOMETRY = geometry_of(PhantomSpec(slices=2, rows=90, columns=100, row_spacing=1.0, column_spacing=1.0))


def soft_ring() -> LabelVolume:
    """A wavy ring, and how sure a network would be of it."""
    row, column = np.mgrid[0:90, 0:100].astype(np.float64)
    radius, angle = np.hypot(row - 44, column - 51), np.arctan2(row - 44, column - 51)
    inside = np.minimum(36 + 3 * np.sin(9 * angle) - radius, radius - 15)
    probability = 1 / (1 + np.exp(-inside))
    labels = np.stack([probability >= 0.5] * 2).astype(np.uint8)
    winner = np.maximum(np.rint(255 * np.maximum(probability, 1 - probability)), 132).astype(np.uint8)
    certainty = Certainty(np.stack([winner] * 2), (1 - labels).astype(np.uint8))
    return LabelVolume(labels, GEOMETRY, {1: load_anatomy()["Liver"]}, certainty)


def contours(label_volume: LabelVolume, **profile: object) -> list[npt.NDArray[np.float64]]:
    drawn = contours_of(label_volume, 1, label_volume.bounding_boxes()[1], Profile.model_validate(profile))
    return [points for k, points in drawn if k == 0]


def filled(drawn: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.bool_]:
    rows, columns, window = fill_even_odd([points - 0.5 for points in drawn], 90, 100)
    mask = np.zeros((90, 100), dtype=bool)
    mask[rows, columns] = window
    return mask


@pytest.mark.parametrize("kind", ["pixel-edge", "smooth"])
@pytest.mark.parametrize("limit", [None, 400, 100])
def test_no_contour_has_more_points_than_the_destination_takes(kind: str, limit: int | None) -> None:
    label_volume = soft_ring()
    drawn = contours(label_volume, contours=kind, contour_points=limit)
    assert all(len(points) <= (limit or 10_000) for points in drawn)
    assert np.array_equal(filled(drawn), label_volume.labels[0] == 1)


def test_simplification_comes_before_cutting() -> None:
    cut = contours(soft_ring(), contours="smooth", contour_points=200)
    simplified = contours(soft_ring(), contours="smooth", contour_points=200, contour_tolerance_mm=0.1)
    assert len(cut) > len(simplified) == 1


def test_smooth_contours_leave_the_pixel_edges() -> None:
    (smooth,), (edges,) = contours(soft_ring(), contours="smooth"), contours(soft_ring())
    assert np.array_equal(edges, np.rint(edges))
    assert np.count_nonzero(smooth != np.rint(smooth)) > len(smooth)


def test_labels_without_a_certainty_are_drawn_along_pixel_edges() -> None:
    bare = replace(soft_ring(), certainty=None)
    assert np.array_equal(contours(bare, contours="smooth")[0], contours(bare)[0])
