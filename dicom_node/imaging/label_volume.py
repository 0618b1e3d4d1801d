"""A label volume: which structure each voxel of a source volume belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_node.anatomy import Structure
from dicom_node.imaging.certainty import Certainty
from dicom_node.imaging.geometry import Geometry

Box = tuple[slice, slice, slice]
"""A part of a volume, as slices over (k, j, i)."""


@dataclass(frozen=True)
class LabelVolume:
    """Labels on the very slices of their source volume.

    A voxel has one label. Structures that overlap others (the body's outline, a lesion inside an organ) lie in
    overlays: label volumes of their own on the same slices.

    Attributes:
        labels: (k, j, i) unsigned integers; 0 is background.
        geometry: The source volume's geometry.
        structures: What each label means; labels are unique (over all overlays too) and positive. A structure may have
            no voxel.
        certainty: How sure the network was; None where nobody knows (label maps of others).
        overlays: Label volumes without overlays of their own, whose structures may overlap these.
    """

    labels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    geometry: Geometry
    structures: dict[int, Structure]
    certainty: Certainty | None = None
    overlays: tuple[LabelVolume, ...] = ()

    def __post_init__(self) -> None:
        if self.labels.shape != self.geometry.shape:
            raise ValueError(f"labels have shape {self.labels.shape}, their geometry {self.geometry.shape}")
        if self.certainty is not None and self.certainty.winner.shape != self.labels.shape:
            raise ValueError(f"labels have shape {self.labels.shape}, certainty {self.certainty.winner.shape}")
        labels = [label for layer in self.layers for label in layer.structures]
        if len(set(labels)) < len(labels):
            raise ValueError("a label stands in more than one layer")

    @property
    def layers(self) -> tuple[LabelVolume, ...]:
        """This label volume, then its overlays."""
        return (self, *self.overlays)

    def mask(self, label: int) -> npt.NDArray[np.bool_]:
        """(k, j, i) where this label is."""
        return np.asarray(self.layer_of(label).labels == label)

    def layer_of(self, label: int) -> LabelVolume:
        """The layer whose structures have this label.

        Raises:
            KeyError: None has.
        """
        for layer in self.layers:
            if label in layer.structures:
                return layer
        raise KeyError(label)

    def present(self) -> Iterator[tuple[int, Structure]]:
        """Labels of every layer with at least one voxel, ascending, with their structures."""
        found = []
        for layer in self.layers:
            counts = layer.voxel_counts()
            found += [(label, structure) for label, structure in layer.structures.items() if counts[label]]
        yield from sorted(found, key=lambda item: item[0])

    def bounding_boxes(self) -> dict[int, Box]:
        """The smallest box around each label of every layer that has voxels."""
        boxes: dict[int, Box] = {}
        for layer in self.layers:
            found = ndimage.find_objects(layer.labels)
            boxes |= {label: found[label - 1] for label in layer.structures if label <= len(found) and found[label - 1]}
        return boxes

    def voxel_counts(self) -> npt.NDArray[np.int64]:
        """Voxels of each label of this layer, from 0 (background) up to the largest label in use."""
        size = max(*self.structures, int(self.labels.max(initial=0)), 0) + 1
        counts = np.zeros(size, dtype=np.int64)
        for plane in self.labels:  # slice by slice: bincount makes 64-bit copies
            counts += np.bincount(plane.ravel(), minlength=size)
        return counts
