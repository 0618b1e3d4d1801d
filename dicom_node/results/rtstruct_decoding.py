"""An RT Structure Set as labels on the planes of its series: our own reader, apart from the writer's code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.uid import RTStructureSetStorage

from dicom_node.anatomy import Structure
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.results.coding import coded_laterality, structure_of
from dicom_node.results.decoded import (
    DecodedMask,
    DecodedObject,
    Reference,
    noted_labels,
    references_of,
    require_attributes,
)
from dicom_node.results.filling import fill_even_odd
from dicom_node.results.object_file import refusing_damage

_TYPE = "RTROIIdentificationCodeSequence"
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_FEWEST_POINTS = 3
_EDGE_PIXELS = 0.01
"""Rounding of coordinates, in pixels."""
_KIND = "RT Structure Set"


def decode_rtstruct(dataset: Dataset, geometry: Geometry) -> DecodedObject:
    """Fill the contours of every ROI by the even-odd rule at pixel centres, each on the slice it lies on.

    All closed contours of an ROI on one slice are filled together, so that holes count, whether they are keyholes or
    loops of their own. Points, open contours and those of less than three points have no inside and are passed over.

    Args:
        dataset: An RT Structure Set, of this node or of anyone.
        geometry: Planes of the series it was drawn on.

    Raises:
        InputRefused: It is no RT Structure Set, is damaged, or has ROIs without a number of their own. Reading the
            masks raises it where a contour cannot be read, or lies off the series' planes.
    """
    if dataset.get("SOPClassUID") != RTStructureSetStorage:
        raise InputRefused(f"expected an RT Structure Set, got SOP class {dataset.get('SOPClassUID', 'none')}")
    with refusing_damage(_KIND):
        require_attributes(dataset, ("StructureSetROISequence", "ROIContourSequence"))
        labels_of = _labels_of(dataset, _numbers(dataset))
        structures, lateralities = _structures(dataset, labels_of)
        names = {labels_of[int(r.ROINumber)]: str(r.get("ROIName") or "") for r in dataset.StructureSetROISequence}
    return DecodedObject(
        geometry=geometry,
        structures=structures,
        names=names,
        lateralities=lateralities,
        masks=lambda: _masks(dataset, geometry, labels_of),
    )


def _masks(dataset: Dataset, geometry: Geometry, labels_of: dict[int, int]) -> Iterator[DecodedMask]:
    """Every ROI on every slice that it has contours on."""
    with refusing_damage(_KIND):
        for item in dataset.ROIContourSequence:
            number = _referenced_number(item)
            if number not in labels_of:
                raise InputRefused(f"contours belong to ROI {number}, which StructureSetROISequence does not describe")
            for k, contours in sorted(_contours_by_slice(item, geometry).items()):
                polygons = [found.polygon for found in contours]
                rows, columns, mask = fill_even_odd(polygons, geometry.rows, geometry.columns)
                references = tuple(dict.fromkeys(reference for found in contours for reference in found.references))
                off_plane = max(found.off_plane_mm for found in contours)
                faults = tuple(fault for found in contours for fault in _faults(found, geometry))
                yield DecodedMask(labels_of[number], k, rows, columns, mask, references, off_plane, faults)


def _contours_by_slice(item: Dataset, geometry: Geometry) -> dict[int, list[_Drawn]]:
    drawn: dict[int, list[_Drawn]] = defaultdict(list)
    for contour in item.get("ContourSequence") or []:
        if contour.get("ContourGeometricType") in _CLOSED:
            points = _points(contour)
            if len(points) >= _FEWEST_POINTS:
                k, found = _drawn(points, contour, geometry)
                drawn[k].append(found)
    return drawn


def _numbers(dataset: Dataset) -> list[int]:
    """ROINumber of every ROI."""
    given = [roi.get("ROINumber") for roi in dataset.StructureSetROISequence]
    if None in given:
        raise InputRefused("an ROI has no ROINumber, so nobody can tell which contours are its own")
    numbers = [int(number) for number in given]
    if len(set(numbers)) < len(numbers):
        raise InputRefused("two ROIs have one ROINumber, so nobody can tell which contours are their own")
    return numbers


def _referenced_number(item: Dataset) -> int:
    """ReferencedROINumber of an item of ROIContourSequence."""
    number = item.get("ReferencedROINumber")
    if number is None:
        raise InputRefused("contours have no ReferencedROINumber, so nobody can tell which ROI they belong to")
    return int(number)


def _labels_of(dataset: Dataset, numbers: list[int]) -> dict[int, int]:
    """The label of each ROI: the one that this node noted, else its number where it can be one, else its place."""
    texts = {int(roi.ROINumber): str(roi.get("ROIDescription") or "") for roi in dataset.StructureSetROISequence}
    noted = noted_labels(dataset, texts)
    if noted:
        return noted
    if all(0 < number < 65536 for number in numbers):
        return {number: number for number in numbers}
    return {number: place for place, number in enumerate(numbers, start=1)}


def _structures(dataset: Dataset, labels_of: dict[int, int]) -> tuple[dict[int, Structure], dict[int, str | None]]:
    observations = {
        int(item.ReferencedROINumber): item
        for item in dataset.get("RTROIObservationsSequence") or []
        if item.get("ReferencedROINumber") is not None
    }
    colors = {_referenced_number(item): item.get("ROIDisplayColor") for item in dataset.ROIContourSequence}
    structures, lateralities = {}, {}
    for roi in dataset.StructureSetROISequence:
        number = int(roi.ROINumber)
        observation = observations.get(number, Dataset())
        channels = [int(value) for value in colors.get(number) or ()]
        color = (channels[0], channels[1], channels[2]) if len(channels) == 3 else None
        name = str(roi.get("ROIName") or f"ROI {number}")
        structures[labels_of[number]] = structure_of(name, observation, _TYPE, color)
        lateralities[labels_of[number]] = coded_laterality(observation, _TYPE)
    return structures, lateralities


@dataclass(frozen=True)
class _Drawn:
    """A contour on its slice.

    Attributes:
        polygon: (n, 2) fractional (row, column).
        references: Where it claims to lie.
        off_plane_mm: How far a point is off the slice's plane at most.
        points_said: NumberOfContourPoints.
    """

    polygon: FloatArray
    references: tuple[Reference, ...]
    off_plane_mm: float
    points_said: int


def _faults(contour: _Drawn, geometry: Geometry) -> Iterator[str]:
    """What a reader may stumble over although the contour can be filled."""
    row, column = contour.polygon.T
    if contour.points_said != len(row):
        yield f"a contour of {len(row)} points says it has {contour.points_said}"
    beyond = contour.polygon.max(axis=0) - [geometry.rows - 1, geometry.columns - 1]
    if max(*beyond, *-contour.polygon.min(axis=0)) > 0.5 + _EDGE_PIXELS:
        yield "a contour leaves the image"
    if abs(float(column @ np.roll(row, -1) - row @ np.roll(column, -1))) < _EDGE_PIXELS:
        yield "a contour encloses nothing"


def _drawn(points: FloatArray, contour: Dataset, geometry: Geometry) -> tuple[int, _Drawn]:
    """The nearest slice of a contour, and the contour on it."""
    distances = points @ geometry.normal
    k = int(np.argmin(np.abs(geometry.distances - distances.mean())))
    offset = float(np.abs(distances - geometry.distances[k]).max())
    if offset > geometry.slice_spacing / 2:
        raise InputRefused(
            f"a contour lies {offset:.2f} mm off the nearest of the {len(geometry.origins)} slices; give the "
            "series that the structure set was drawn on"
        )
    in_plane = points - geometry.origins[k]
    row = in_plane @ geometry.column_direction / geometry.row_spacing
    column = in_plane @ geometry.row_direction / geometry.column_spacing
    references = references_of(contour.get("ContourImageSequence") or [])
    said = int(contour.get("NumberOfContourPoints") or 0)
    return k, _Drawn(np.stack([row, column], axis=1), references, offset, said)


def _points(contour: Dataset) -> FloatArray:
    """(n, 3) patient_mm from the encoded text: pydicom would make an object of every number."""
    element = contour.get_item("ContourData")
    if element is None:
        raise InputRefused("a contour has no ContourData")
    try:
        if isinstance(element, RawDataElement):
            numbers = np.array((element.value or b"").split(b"\\")).astype(np.float64)
        else:
            numbers = np.array(element.value, dtype=np.float64)
        points = numbers.reshape(-1, 3)
    except ValueError as error:
        raise InputRefused(f"ContourData is no list of x\\y\\z triplets: {error}") from error
    if not np.isfinite(points).all():
        raise InputRefused("ContourData has coordinates that are not finite")
    return points
