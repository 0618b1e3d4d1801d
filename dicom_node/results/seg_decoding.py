"""A DICOM Segmentation as masks on the planes of its series: our own reader, apart from the writer's code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels

from dicom_node.anatomy import Structure
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import ANGLE_TOLERANCE, SPACING_TOLERANCE_MM, FloatArray, Geometry
from dicom_node.results.coding import coded_laterality, srgb, structure_of
from dicom_node.results.decoded import (
    DecodedMask,
    DecodedObject,
    Mask,
    Reference,
    noted_labels,
    references_of,
    require_attributes,
)
from dicom_node.results.object_file import refusing_damage
from dicom_node.uids import LABEL_MAP_SEGMENTATION, MANUFACTURER, SEGMENTATION

_TYPE = "SegmentedPropertyTypeCodeSequence"
_KIND = "segmentation"
_SPACING_TOLERANCE = 1e-3
"""How far a pixel spacing may differ, relative to it."""
_NEEDED = (
    "SegmentSequence",
    "SegmentationType",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "PixelData",
)


def decode_seg(dataset: Dataset, geometry: Geometry) -> DecodedObject:
    """The structures of a Segmentation on the planes of its series.

    Args:
        dataset: BINARY, LABELMAP or FRACTIONAL (at least half is inside), of this node or of anyone.
        geometry: Planes of the series it belongs to.

    Raises:
        InputRefused: It is no Segmentation, is damaged, or lacks what its masks are read from. Reading the masks raises
            it where pixel data cannot be decoded, or frames do not lie on the planes and pixels of the series.
    """
    if dataset.get("SOPClassUID") not in (SEGMENTATION, LABEL_MAP_SEGMENTATION):
        raise InputRefused(f"expected a DICOM Segmentation, got SOP class {dataset.get('SOPClassUID', 'none')}")
    with refusing_damage(_KIND):
        require_attributes(dataset, _NEEDED)
        _require_frames(dataset)
        segments = _segments(dataset)
        labels_of = _labels_of(dataset, segments)
        structures = {labels_of[number]: _structure_of(item, dataset) for number, item in segments.items()}
        sides = {labels_of[number]: coded_laterality(item, _TYPE) for number, item in segments.items()}
        names = {labels_of[number]: str(item.get("SegmentLabel") or "") for number, item in segments.items()}
    return DecodedObject(
        geometry=geometry,
        structures=structures,
        names=names,
        lateralities=sides,
        masks=lambda: _masks(dataset, geometry, labels_of),
    )


def _require_frames(dataset: Dataset) -> None:
    said, described = int(dataset.NumberOfFrames), len(dataset.PerFrameFunctionalGroupsSequence)
    if said != described:
        raise InputRefused(
            f"NumberOfFrames is {said}, but PerFrameFunctionalGroupsSequence describes {described} frames"
        )


def _segments(dataset: Dataset) -> dict[int, Dataset]:
    """Items of SegmentSequence by number; number 0 is the background of a label map."""
    given = [(item.get("SegmentNumber"), item) for item in dataset.SegmentSequence]
    if any(number is None for number, _ in given):
        raise InputRefused("a segment has no SegmentNumber, so nobody can tell which frames are its own")
    if len({int(number) for number, _ in given}) < len(given):
        raise InputRefused("two segments have one SegmentNumber, so nobody can tell which frames are their own")
    return {int(number): item for number, item in given if number}


def _labels_of(dataset: Dataset, segments: dict[int, Dataset]) -> dict[int, int]:
    """The label of each segment: the one that this node noted, else the segment's number."""
    texts = {number: str(item.get("SegmentDescription") or "") for number, item in segments.items()}
    return noted_labels(dataset, texts) or {number: number for number in segments}


def _structure_of(item: Dataset, dataset: Dataset) -> Structure:
    """A segment's structure; what this node wrote has our name as TrackingID, whatever its destination calls it."""
    encoded = item.get("RecommendedDisplayCIELabValue")
    name = item.get("TrackingID") if dataset.get("Manufacturer") == MANUFACTURER else None
    name = name or item.get("SegmentLabel") or f"Segment {item.SegmentNumber}"
    return structure_of(str(name), item, _TYPE, srgb(encoded) if encoded else None)


def _masks(dataset: Dataset, geometry: Geometry, labels_of: dict[int, int]) -> Iterator[DecodedMask]:
    """Every segment of every frame."""
    with refusing_damage(_KIND):
        shared = dataset.SharedFunctionalGroupsSequence[0]
        labelmap = dataset.SegmentationType == "LABELMAP"
        fractional = dataset.SegmentationType == "FRACTIONAL"
        threshold = int(dataset.get("MaximumFractionalValue", 1)) / 2 if fractional else 0.5
        columns = slice(0, geometry.columns)
        frames = dataset.PerFrameFunctionalGroupsSequence
        for frame, (rows, pixels) in zip(frames, _frames(dataset), strict=True):
            k = _slice_of(frame, shared, dataset, geometry)
            references = _references(frame, shared)
            if labelmap:
                found = [int(value) for value in np.unique(pixels) if value]
            else:
                found = [int(_value(frame, shared, "SegmentIdentificationSequence", "ReferencedSegmentNumber"))]
            for number in found:
                if number not in labels_of:
                    raise InputRefused(f"a frame belongs to segment {number}, which SegmentSequence does not describe")
                mask: Mask = np.asarray(pixels == number if labelmap else pixels >= threshold)
                yield DecodedMask(labels_of[number], k, rows, columns, mask, references)


def _references(frame: Dataset, shared: Dataset) -> tuple[Reference, ...]:
    """The source images of a frame."""
    derivations = frame.get("DerivationImageSequence") or shared.get("DerivationImageSequence") or []
    return references_of(source for derivation in derivations for source in derivation.get("SourceImageSequence", []))


def _frames(dataset: Dataset) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Rows outside of which a frame is zero, and (those rows, columns) of it; every frame in order, one at a time."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if dataset.BitsAllocated == 1 and not syntax.is_encapsulated and syntax.is_little_endian:
        yield from _frames_of_bits(dataset)
        return
    try:
        for pixels in iter_pixels(dataset, raw=True):
            yield slice(0, int(dataset.Rows)), pixels
    except (RuntimeError, ValueError, AttributeError) as error:
        raise InputRefused(f"the pixel data cannot be decoded ({syntax.name}): {error}") from error


def _frames_of_bits(dataset: Dataset) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    frames = int(dataset.NumberOfFrames)
    if len(packed) * 8 < frames * rows * columns:
        raise InputRefused(f"the pixel data ends early: {frames} frames need {frames * rows * columns} bits")
    for frame in range(frames):
        # frames follow each other without padding, bit by bit, lowest bit first (PS3.5 8.1.1)
        first, last = frame * rows * columns, (frame + 1) * rows * columns
        used = packed[first // 8 : -(-last // 8)] != 0
        # the bytes at both ends may be a neighbour's too
        used[0] = int(packed[first // 8]) >> first % 8 != 0
        used[-1] &= (int(packed[(last - 1) // 8]) << -last % 8) & 0xFF != 0
        start = first - first % 8
        low, high = start + 8 * int(used.argmax()), start + 8 * (len(used) - int(used[::-1].argmax()))
        top = max(low - first, 0) // columns
        bottom = -(-min(high - first, rows * columns) // columns) if used.any() else top
        begin, end = first + top * columns, first + bottom * columns
        bits = np.unpackbits(packed[begin // 8 : -(-end // 8)], bitorder="little")
        yield slice(top, bottom), bits[begin % 8 : begin % 8 + end - begin].reshape(bottom - top, columns)


def _slice_of(frame: Dataset, shared: Dataset, dataset: Dataset, geometry: Geometry) -> int:
    """Index of the slice whose plane and pixels a frame lies on."""
    position = np.array(_value(frame, shared, "PlanePositionSequence", "ImagePositionPatient"), dtype=np.float64)
    cosines = np.array(_value(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient"), dtype=np.float64)
    spacing = np.array(_value(frame, shared, "PixelMeasuresSequence", "PixelSpacing"), dtype=np.float64)
    k = int(np.argmin(np.abs(geometry.distances - position @ geometry.normal)))
    expected = np.concatenate([geometry.row_direction, geometry.column_direction])
    measured = np.array([geometry.row_spacing, geometry.column_spacing])
    same = (
        (dataset.Rows, dataset.Columns) == (geometry.rows, geometry.columns)
        and bool((np.abs(cosines - expected) <= ANGLE_TOLERANCE).all())
        and bool((np.abs(spacing - measured) <= _SPACING_TOLERANCE * measured).all())
        and bool((np.abs(position - geometry.origins[k]) <= SPACING_TOLERANCE_MM).all())
    )
    if not same:
        raise InputRefused(
            f"the segmentation does not lie on the pixels of the series: a frame of {dataset.Rows} x {dataset.Columns} "
            f"pixels at {_short(position)} mm, but the nearest of {geometry.shape[0]} slices has {geometry.rows} x "
            f"{geometry.columns} pixels at {_short(geometry.origins[k])} mm; give the series it was made from"
        )
    return k


def _value(frame: Dataset, shared: Dataset, sequence: str, keyword: str) -> Any:
    """An attribute of a functional group, the frame's own or the one that all frames share."""
    items = frame.get(sequence) or shared.get(sequence)
    if not items or not items[0].get(keyword):
        raise InputRefused(f"the segmentation lacks {keyword} in {sequence}, so its frames have no place")
    return items[0][keyword].value


def _short(position: FloatArray) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in position) + ")"
