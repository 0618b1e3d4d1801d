"""Where the body is on a network's grid: a wide field of view is mostly air, which costs time and finds nothing."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from torch import Tensor

from dicom_node.imaging.geometry import Geometry
from dicom_node.segment.grids import Box

BODY_HU = -400.0
"""Above lung, below fat and skin."""
MARGIN_MM = 16.0


def body_box(image: Tensor, grid: Geometry, modality: str) -> Box:
    """The part of a grid that the body takes, with a margin.

    Only CT is cropped: its air has a known value. MR fields of view are chosen tight, and their noise has no fixed
    level.

    Args:
        image: (k, j, i) on the grid; Hounsfield units for CT.
        grid: Place of the voxels.
        modality: "CT", or anything else.

    Returns:
        Slices over (k, j, i); the whole grid where there is no body to see.
    """
    whole = tuple(slice(0, n) for n in grid.shape)
    if modality != "CT":
        return whole[0], whole[1], whole[2]
    pieces, count = ndimage.label((image > BODY_HU).numpy())
    if not count:
        return whole[0], whole[1], whole[2]
    sizes = np.bincount(pieces.ravel())
    found = ndimage.find_objects(pieces)[int(np.argmax(sizes[1:]))]
    margins = [int(np.ceil(MARGIN_MM / mm)) for mm in (grid.slice_spacing, grid.row_spacing, grid.column_spacing)]
    k, j, i = (
        slice(max(0, part.start - margin), min(n, part.stop + margin))
        for part, margin, n in zip(found, margins, grid.shape, strict=True)
    )
    return k, j, i
