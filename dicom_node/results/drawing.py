"""The contours of a structure, slice by slice, as a destination takes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dicom_node.imaging.certainty import Certainty
from dicom_node.imaging.label_volume import Box, LabelVolume
from dicom_node.profiles import Profile
from dicom_node.results.contours import islands_of_slices
from dicom_node.results.islands import Island, Points, divided, join_holes, simplified
from dicom_node.results.smooth_contours import smooth_islands


def contours_of(layer: LabelVolume, label: int, box: Box, profile: Profile) -> Iterator[tuple[int, Points]]:
    """Every contour of a structure: slice, and (n, 2) points (row, column) on the lattice of pixel corners.

    Smooth contours need the network's certainty; a layer without one is traced along pixel edges.

    Args:
        layer: The label volume the label lies in.
        label: Which structure.
        box: Its bounding box.
        profile: How contours are traced, simplified and limited.
    """
    spacing = layer.geometry.row_spacing, layer.geometry.column_spacing
    if profile.contours == "smooth" and layer.certainty is not None:
        box = box[0], _widened(box[1], layer.geometry.rows), _widened(box[2], layer.geometry.columns)
        traced: Iterator[tuple[int, Island]] = (
            (k, simplified(island, spacing, profile.contour_tolerance_mm))
            for k, island in _between_centres(layer, layer.certainty, label, box)
        )
    else:
        traced = _along_pixels(layer, label, box)
    corner = np.array([box[1].start, box[2].start], dtype=np.float64)
    for k, island in traced:
        for contour in _within_limit(island, spacing, profile):
            yield k, contour + corner


def _along_pixels(layer: LabelVolume, label: int, box: Box) -> Iterator[tuple[int, Island]]:
    for k, island in islands_of_slices(layer.labels[box] == label):
        yield box[0].start + k, island


def _between_centres(layer: LabelVolume, certainty: Certainty, label: int, box: Box) -> Iterator[tuple[int, Island]]:
    stack, rows, columns = box
    for k in range(stack.start, stack.stop):
        probability = certainty.probability(layer.labels[k, rows, columns], label, k, (rows, columns))
        for island in smooth_islands(probability):
            yield k, island


def _within_limit(island: Island, spacing: tuple[float, float], profile: Profile) -> list[Points]:
    """The island's contour; simplified where it has too many points, and cut in two where that is not enough."""
    limit = profile.contour_points
    if limit is None or _points(island) <= limit:
        return [join_holes(island)]
    return [join_holes(part) for part in _cut(simplified(island, spacing, profile.contour_tolerance_mm), limit)]


def _cut(island: Island, limit: int) -> list[Island]:
    if _points(island) <= limit:
        return [island]
    return [part for half in divided(island) for part in _cut(half, limit)]


def _points(island: Island) -> int:
    """Most points that the island's contour can have: three more for each keyhole."""
    return len(island.outer) + sum(len(hole) + 3 for hole in island.holes)


def _widened(part: slice, size: int) -> slice:
    """One more row or column on either side, where the image has it."""
    return slice(max(0, part.start - 1), min(size, part.stop + 1))
