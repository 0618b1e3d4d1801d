"""What a decoder read from an encoded object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.errors import InputRefused
from dicom_node.imaging.label_volume import LabelVolume


@dataclass(frozen=True)
class DecodedLabels:
    """What an object says.

    Attributes:
        label_volume: Labels on the given geometry; where segments or ROIs overlap, the later one.
        lateralities: Coded side of each label, None where none is coded.
        overlaps: Voxels that more than one segment or ROI claims.
        off_plane_mm: How far a contour point lies off the plane of its slice at most; 0 for segmentations.
    """

    label_volume: LabelVolume
    lateralities: dict[int, str | None]
    overlaps: int = 0
    off_plane_mm: float = 0.0


def require_attributes(dataset: Dataset, keywords: Iterable[str]) -> None:
    """Check that attributes are there before they are read.

    Raises:
        InputRefused: Some are absent or empty; the message names them.
    """
    missing = [keyword for keyword in keywords if not dataset.get(keyword)]
    if missing:
        raise InputRefused(f"the object lacks {', '.join(missing)}, without which its labels cannot be read")
