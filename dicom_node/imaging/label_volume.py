"""A label volume: which structure each voxel of a source volume belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_node.anatomy import Structure
from dicom_node.imaging.geometry import Geometry


@dataclass(frozen=True)
class LabelVolume:
    """Labels on the very slices of their source volume.

    Attributes:
        labels: (k, j, i) unsigned integers; 0 is background.
        geometry: The source volume's geometry.
        structures: What each label means; labels are unique and positive. A structure may have no voxel.
    """

    labels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    geometry: Geometry
    structures: dict[int, Structure]

    def __post_init__(self) -> None:
        if self.labels.shape != self.geometry.shape:
            raise ValueError(f"labels have shape {self.labels.shape}, their geometry {self.geometry.shape}")

    def mask(self, label: int) -> npt.NDArray[np.bool_]:
        """(k, j, i) where this label is."""
        return np.asarray(self.labels == label)

    def present(self) -> Iterator[tuple[int, Structure]]:
        """Labels with at least one voxel, ascending, with their structures."""
        counts = self.voxel_counts()
        for label in sorted(self.structures):
            if counts[label]:
                yield label, self.structures[label]

    def voxel_counts(self) -> npt.NDArray[np.int64]:
        """Voxels of each label, from 0 (background) up to the largest label in use."""
        size = max(*self.structures, int(self.labels.max(initial=0)), 0) + 1
        counts = np.zeros(size, dtype=np.int64)
        for plane in self.labels:  # slice by slice: bincount makes 64-bit copies
            counts += np.bincount(plane.ravel(), minlength=size)
        return counts
