"""The contours of a structure, slice by slice, as a destination takes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dicom_node.imaging.label_volume import Box, LabelVolume
from dicom_node.profiles import Profile
from dicom_node.results.contours import pixel_edge_islands
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
    is_smooth = profile.contours == "smooth" and layer.certainty is not None
    window = tuple(_widened(part, size) for part, size in zip(box[1:], layer.geometry.shape[1:], strict=True))
    rows, columns = window if is_smooth else box[1:]
    corner = np.array([rows.start, columns.start], dtype=np.float64)
    for k in range(box[0].start, box[0].stop):
        labels = layer.labels[k, rows, columns]
        if is_smooth and layer.certainty is not None:
            traced = smooth_islands(layer.certainty.probability(labels, label, k, (rows, columns)))
            islands = [simplified(island, spacing, profile.contour_tolerance_mm) for island in traced]
        else:
            islands = pixel_edge_islands(labels == label)
        for island in islands:
            for contour in _within_limit(island, spacing, profile):
                yield k, contour + corner


def _within_limit(island: Island, spacing: tuple[float, float], profile: Profile) -> list[Points]:
    """The island's contour; simplified where it has too many points, and cut in two where that is not enough."""
    contour = join_holes(island)
    limit = profile.contour_points
    if limit is None or len(contour) <= limit:
        return [contour]
    island = simplified(island, spacing, profile.contour_tolerance_mm)
    contour = join_holes(island)
    if len(contour) <= limit:
        return [contour]
    return [part for half in divided(island) for part in _within_limit(half, spacing, profile)]


def _widened(part: slice, size: int) -> slice:
    """One more row or column on either side, where the image has it."""
    return slice(max(0, part.start - 1), min(size, part.stop + 1))
