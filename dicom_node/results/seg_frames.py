"""Which frames a Segmentation has: where on which slice each structure lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from operator import itemgetter

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_node.anatomy import Structure
from dicom_node.imaging.certainty import CERTAIN
from dicom_node.imaging.label_volume import LabelVolume

Box = tuple[slice, slice]
"""Rows and columns outside of which a structure has nothing on a slice."""
Labels = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Segment:
    """A structure of the label volume as a segment.

    Attributes:
        number: SegmentNumber, from 1.
        label: The structure's label.
        structure: What it is.
        layer: The layer of the label volume that holds it.
        boxes: Where it lies, by slice; slices without it are absent.
    """

    number: int
    label: int
    structure: Structure
    layer: LabelVolume
    boxes: dict[int, Box]


@dataclass(frozen=True)
class Frame:
    """One segment on one slice.

    Attributes:
        segment: The segment.
        k: The slice.
    """

    segment: Segment
    k: int

    @property
    def box(self) -> Box:
        """Rows and columns outside of which the frame is empty."""
        return self.segment.boxes[self.k]


def find_segments(label_volume: LabelVolume, wants: Callable[[Structure], bool]) -> list[Segment]:
    """Every wanted structure that has voxels, over all layers, by ascending label.

    Raises:
        ValueError: A voxel carries a label that no structure of its layer explains.
    """
    found = {}
    for layer in label_volume.layers:
        boxes = _boxes(layer.labels)
        unexplained = sorted(set(boxes) - set(layer.structures))
        if unexplained:
            raise ValueError(f"labels {unexplained} have voxels but no structure that explains them")
        found.update({label: (layer, boxes[label]) for label in boxes if wants(layer.structures[label])})
    return [
        Segment(number, label, layer.structures[label], layer, by_slice)
        for number, (label, (layer, by_slice)) in enumerate(sorted(found.items(), key=itemgetter(0)), start=1)
    ]


def with_doubtful_voxels(segments: Sequence[Segment]) -> list[Segment]:
    """The same segments, their boxes grown to where they are a layer's second best label."""
    layers = {id(segment.layer): segment.layer for segment in segments}
    runners_up = {key: _runner_up_boxes(layer) for key, layer in layers.items()}
    return [
        replace(segment, boxes=_joined(segment.boxes, runners_up[id(segment.layer)].get(segment.label, {})))
        for segment in segments
    ]


def overlapping_labels(segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    """Pairs of labels that share a voxel, slice by slice; a pair may come more than once."""
    layers = {id(segment.layer): segment.layer for segment in segments}
    for first, second in combinations(layers.values(), 2):
        in_first, in_second = _membership(segments, first), _membership(segments, second)
        for plane, other in zip(first.labels, second.labels, strict=True):
            both = in_first[plane] & in_second[other]
            if both.any():
                pairs = np.unique(np.stack([plane[both], other[both]]).astype(np.int64), axis=1)
                yield from ((int(label), int(another)) for label, another in pairs.T)


def segment_numbers(segments: Sequence[Segment], layer: LabelVolume) -> npt.NDArray[np.uint8 | np.uint16]:
    """Look-up table from the labels of one layer to segment numbers; 0 for what is no segment."""
    table = np.zeros(np.iinfo(layer.labels.dtype).max + 1, dtype=np.uint8 if len(segments) < 256 else np.dtype("<u2"))
    for segment in segments:
        if segment.layer is layer:
            table[segment.label] = segment.number
    return table


def _membership(segments: Sequence[Segment], layer: LabelVolume) -> npt.NDArray[np.bool_]:
    return np.asarray(segment_numbers(segments, layer) > 0)


def _boxes(planes: Iterable[Labels]) -> dict[int, dict[int, Box]]:
    """The box of each label on each slice: one pass over the labels."""
    boxes: dict[int, dict[int, Box]] = {}
    for k, plane in enumerate(planes):
        for label, box in enumerate(ndimage.find_objects(plane), start=1):
            if box is not None:
                boxes.setdefault(label, {})[k] = box
    return boxes


def _runner_up_boxes(layer: LabelVolume) -> dict[int, dict[int, Box]]:
    if layer.certainty is None:
        return {}
    winner, runner_up = layer.certainty.winner, layer.certainty.runner_up
    boxes: dict[int, dict[int, Box]] = {}
    for k in range(len(winner)):
        doubtful = np.where(winner[k] < CERTAIN, runner_up[k], 0)
        for label, by_slice in _boxes([doubtful]).items():
            boxes.setdefault(label, {})[k] = by_slice[0]
    return boxes


def _joined(first: dict[int, Box], second: dict[int, Box]) -> dict[int, Box]:
    joined = {**second, **first}
    for k in first.keys() & second.keys():
        (rows, columns), (other_rows, other_columns) = first[k], second[k]
        joined[k] = _hull(rows, other_rows), _hull(columns, other_columns)
    return joined


def _hull(first: slice, second: slice) -> slice:
    return slice(min(first.start, second.start), max(first.stop, second.stop))
