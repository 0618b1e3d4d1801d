"""What a decoder reads from an encoded object: structures, and their masks slice by slice."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom_node.anatomy import Structure
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.uids import MANUFACTURER

Mask = npt.NDArray[np.bool_]
Reference = tuple[str, int | None]
"""SOP instance and, within a multi-frame one, frame number."""
_LABEL = re.compile(r"label (\d{1,5})\b")


@dataclass(frozen=True)
class DecodedMask:
    """One structure on one slice, or a part of it.

    Attributes:
        label: The structure's label.
        k: The slice its plane is.
        rows: Rows of a window outside of which there is nothing.
        columns: Columns of that window.
        mask: (rows, columns) of the window.
        references: Source images that the object says it was drawn on.
        off_plane_mm: How far a point lies off the slice's plane at most; 0 for segmentations.
        faults: What is wrong with a contour although it can be filled.
    """

    label: int
    k: int
    rows: slice
    columns: slice
    mask: Mask
    references: tuple[Reference, ...] = ()
    off_plane_mm: float = 0.0
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecodedObject:
    """What an object says.

    Attributes:
        geometry: Planes of the series it was decoded on.
        structures: What each label means: an entry of anatomy.toml, or made from the object's codes.
        names: SegmentLabel or ROIName of each label, as encoded.
        lateralities: Code value of each label's side (PS3.16 CID 244), None where none is coded.
        masks: Reads the masks anew each time it is called, one at a time, in the object's order; raises InputRefused
            where one cannot be read or does not lie on the series.
    """

    geometry: Geometry
    structures: dict[int, Structure]
    names: dict[int, str]
    lateralities: dict[int, str | None]
    masks: Callable[[], Iterator[DecodedMask]]

    @cached_property
    def label_volume(self) -> LabelVolume:
        """Every structure, in as few layers as hold them: one where nothing overlaps.

        Raises:
            InputRefused: As for ``masks``.
        """
        gathered: dict[int, list[DecodedMask]] = defaultdict(list)
        for mask in self.masks():
            if mask.mask.any():
                gathered[mask.label].append(mask)
        layers = [self._new_layer()]
        for label, structure in self.structures.items():
            masks = gathered[label]
            layer = next((layer for layer in layers if _is_free(layer, masks)), None)
            if layer is None:
                layer = self._new_layer()
                layers.append(layer)
            layer.structures[label] = structure
            for mask in masks:
                layer.labels[mask.k, mask.rows, mask.columns][mask.mask] = label
        return replace(layers[0], overlays=tuple(layers[1:]))

    def _new_layer(self) -> LabelVolume:
        shape, is_wide = self.geometry.shape, max(self.structures, default=0) > 255
        labels = np.zeros(shape, dtype=np.uint16) if is_wide else np.zeros(shape, dtype=np.uint8)
        return LabelVolume(labels, self.geometry, {})


def _is_free(layer: LabelVolume, masks: Iterable[DecodedMask]) -> bool:
    """Whether no voxel of some masks is taken in a layer."""
    return not any(layer.labels[mask.k, mask.rows, mask.columns][mask.mask].any() for mask in masks)


def references_of(items: Iterable[Dataset]) -> tuple[Reference, ...]:
    """The images that items of an image reference sequence (PS3.3 Table 10-3) name."""
    return tuple(
        (str(item.get("ReferencedSOPInstanceUID", "")), int(number) if number else None)
        for item in items
        for number in [item.get("ReferencedFrameNumber")]
    )


def noted_labels(dataset: Dataset, descriptions: Mapping[int, str]) -> dict[int, int] | None:
    """The labels that this node wrote at the beginning of its descriptions of segments or ROIs.

    Args:
        dataset: The object.
        descriptions: SegmentDescription or ROIDescription by number.

    Returns:
        The label of each number; None where another made the object, or not every one has a label of its own.
    """
    if dataset.get("Manufacturer") != MANUFACTURER:
        return None
    found = {number: _LABEL.match(text) for number, text in descriptions.items()}
    noted = {number: int(match[1]) for number, match in found.items() if match}
    complete = len(set(noted.values())) == len(descriptions) and all(0 < label < 65536 for label in noted.values())
    return noted if complete else None


def require_attributes(dataset: Dataset, keywords: Iterable[str]) -> None:
    """Check that attributes are there before they are read.

    Raises:
        InputRefused: Some are absent or empty; the message names them.
    """
    missing = [keyword for keyword in keywords if not dataset.get(keyword)]
    if missing:
        raise InputRefused(f"the object lacks {', '.join(missing)}, without which its labels cannot be read")
