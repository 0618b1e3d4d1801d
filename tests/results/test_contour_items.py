"""Contours as encoded bytes: what pydicom reads from them is what was drawn."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_sequence

from dicom_node.results.contour_items import ContourEncoder
from tests.results.sources import EVERY, phantom, volume_of

GENERATOR = np.random.default_rng(5)


def decoded(name: str, contours: list[tuple[int, np.ndarray]]) -> list[Dataset]:
    volume = volume_of(phantom(name))
    encoded = b"".join(ContourEncoder(volume.geometry, volume.sources).items(contours))
    file = DicomBytesIO(encoded)
    file.is_implicit_VR, file.is_little_endian = True, True
    return list(
        read_sequence(file, is_implicit_VR=True, is_little_endian=True, bytelength=len(encoded), encoding="ascii")
    )


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kind", ["corners", "between"])
def test_every_point_is_where_it_was_drawn(name: str, kind: str) -> None:
    geometry = volume_of(phantom(name)).geometry
    contours = []
    for k in (0, 7, 7, 23):
        points = GENERATOR.integers(0, [geometry.rows + 1, geometry.columns + 1], (9, 2)).astype(np.float64)
        contours.append((k, points if kind == "corners" else np.clip(points - 0.37, 0, None)))
    for (k, points), item in zip(contours, decoded(name, contours), strict=True):
        there = np.array(item.ContourData, dtype=float).reshape(-1, 3)
        kji = np.column_stack([np.full(len(points), float(k)), points - 0.5])
        expected = geometry.index_to_patient(kji)
        starts = [np.abs(np.roll(expected, -shift, axis=0) - there).max() for shift in range(len(expected))]
        assert min(starts) <= 0.00056  # a contour may begin at any of its points
        assert item.NumberOfContourPoints == len(points)


@pytest.mark.parametrize("name", ["axial", "enhanced MR"])
def test_every_contour_refers_to_its_slice(name: str) -> None:
    sources = volume_of(phantom(name)).sources
    square = np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 2.0], [2.0, 0.0]])
    items = decoded(name, [(3, square), (11, square)])
    for number, (k, item) in enumerate(zip((3, 11), items, strict=True), start=1):
        (image,) = item.ContourImageSequence
        assert image.ReferencedSOPInstanceUID == sources[k].sop_instance_uid
        assert image.ReferencedSOPClassUID == sources[k].sop_class_uid
        assert image.get("ReferencedFrameNumber") == sources[k].frame_number
        assert (item.ContourNumber, item.ContourGeometricType) == (number, "CLOSED_PLANAR")


@pytest.mark.parametrize("name", ["sagittal", "coronal"])
def test_the_last_edge_of_a_contour_never_runs_along_z_alone(name: str) -> None:
    square = np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 2.0], [2.0, 0.0]])
    contours = [(2, np.roll(square, shift, axis=0)) for shift in range(4)]
    for item in decoded(name, contours):
        points = np.array(item.ContourData, dtype=float).reshape(-1, 3)
        assert np.abs(points[0] - points[-1])[:2].max() > 0.5
        assert {tuple(point) for point in points} == {tuple(p) for p in points_of(decoded(name, [(2, square)])[0])}


def points_of(item: Dataset) -> list[list[float]]:
    return np.array(item.ContourData, dtype=float).reshape(-1, 3).tolist()


def test_numbers_have_at_most_sixteen_characters_and_no_negative_zero() -> None:
    square = np.array([[0.5, 0.5], [0.5, 3.0], [3.0, 3.0]])
    (item,) = decoded("axial", [(2, square)])
    texts = item.get_item("ContourData").value.decode().split("\\")
    assert all(len(text.strip()) <= 16 and text.strip() != "-0.000" for text in texts)
