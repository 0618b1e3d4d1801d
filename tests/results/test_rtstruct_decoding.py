from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import RTStructureSetStorage

from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import Geometry
from dicom_node.results.object_file import read_object, to_bytes
from dicom_node.results.rtstruct import encode_rtstruct
from dicom_node.results.rtstruct_decoding import decode_rtstruct
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of

GRID = Geometry(
    origins=np.array([[0.0, 0.0, 3.0 * k] for k in range(4)]),
    row_direction=np.array([1.0, 0.0, 0.0]),
    column_direction=np.array([0.0, 1.0, 0.0]),
    row_spacing=1.0,
    column_spacing=1.0,
    rows=12,
    columns=12,
)


def square(low: float, high: float, z: float, kind: str = "CLOSED_PLANAR") -> Dataset:
    corners = [(low, low), (high, low), (high, high), (low, high)]
    contour = Dataset()
    contour.ContourGeometricType = kind
    contour.NumberOfContourPoints = 4
    contour.ContourData = [value for x, y in corners for value in (x, y, z)]
    return contour


def structure_set(*rois: list[Dataset], numbers: tuple[int, ...] | None = None) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, contours in zip(numbers or range(1, len(rois) + 1), rois, strict=True):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, f"Thing {number}"
        item.ReferencedROINumber, item.ContourSequence = number, contours
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(item)
    return dataset


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_loop_within_a_loop_is_a_hole(kind: str) -> None:
    dataset = structure_set([square(0.5, 9.5, 3.0, kind), square(3.5, 6.5, 3.0, kind)])
    labels = decode_rtstruct(dataset, GRID).label_volume.labels
    assert np.count_nonzero(labels[1]) == 81 - 9
    assert not labels[[0, 2, 3]].any()


def test_points_and_open_contours_have_no_inside() -> None:
    dataset = structure_set([square(0.5, 5.5, 0.0, "POINT"), square(0.5, 5.5, 0.0, "OPEN_PLANAR")])
    assert not decode_rtstruct(dataset, GRID).label_volume.labels.any()


def test_contours_a_little_off_their_slice_are_taken_and_measured() -> None:
    decoded = decode_rtstruct(structure_set([square(0.5, 5.5, 3.2)]), GRID)
    assert [mask.off_plane_mm for mask in decoded.masks()] == pytest.approx([0.2])
    assert decoded.label_volume.labels[1].any()


def test_contours_beyond_the_series_are_refused() -> None:
    with pytest.raises(InputRefused, match=r"11\.00 mm off the nearest of the 4 slices"):
        list(decode_rtstruct(structure_set([square(0.5, 5.5, 20.0)]), GRID).masks())


def test_rois_that_overlap_lie_in_layers_of_their_own() -> None:
    decoded = decode_rtstruct(
        structure_set([square(0.5, 5.5, 0.0)], [square(3.5, 9.5, 0.0)], [square(6.5, 9.5, 3.0)]), GRID
    )
    first, second = decoded.label_volume.layers
    assert (set(first.structures), set(second.structures)) == ({1, 3}, {2})
    assert [np.count_nonzero(decoded.label_volume.mask(label)) for label in (1, 2, 3)] == [25, 36, 9]


@pytest.mark.parametrize(("numbers", "labels"), [((0, 7), {1, 2}), ((3, 70000), {1, 2}), ((3, 400), {3, 400})])
def test_roi_numbers_that_cannot_be_labels_are_replaced_by_their_place(
    numbers: tuple[int, int], labels: set[int]
) -> None:
    dataset = structure_set([square(0.5, 3.5, 0.0)], [square(4.5, 9.5, 0.0)], numbers=numbers)
    decoded = decode_rtstruct(dataset, GRID).label_volume
    assert set(decoded.structures) == set(np.unique(decoded.labels)) - {0} == labels


def test_names_of_the_anatomy_are_recognised() -> None:
    dataset = structure_set([square(0.5, 3.5, 0.0)])
    dataset.StructureSetROISequence[0].ROIName = "Bone_Pelvic_L"
    (structure,) = decode_rtstruct(dataset, GRID).label_volume.structures.values()
    assert structure.name == "Pelvis_L"


@pytest.mark.parametrize(
    ("values", "reason"), [(["1", "2"], "no list of"), (["1", "2", "nan"], "not finite"), ([], "no list of")]
)
def test_damaged_contour_data_is_refused(values: list[str], reason: str) -> None:
    contour = square(0.5, 3.5, 0.0)
    text = "\\".join(values).encode()
    contour[Tag("ContourData")] = RawDataElement(Tag("ContourData"), "DS", len(text), text, 0, True, True)
    with pytest.raises(InputRefused, match=reason):
        list(decode_rtstruct(structure_set([contour]), GRID).masks())


def test_contours_without_an_roi_are_refused() -> None:
    dataset = structure_set([square(0.5, 3.5, 0.0)])
    dataset.ROIContourSequence[0].ReferencedROINumber = 9
    with pytest.raises(InputRefused, match="ROI 9"):
        list(decode_rtstruct(dataset, GRID).masks())


def test_a_structure_set_without_contours_is_refused() -> None:
    dataset = structure_set()
    with pytest.raises(InputRefused, match="lacks StructureSetROISequence, ROIContourSequence"):
        decode_rtstruct(dataset, GRID)


def test_contours_of_two_points_have_no_inside() -> None:
    line = square(0.5, 9.5, 3.0)
    line.ContourData = line.ContourData[:6]
    decoded = decode_rtstruct(structure_set([line, square(0.5, 3.5, 0.0)], [line]), GRID)
    assert [(mask.label, mask.k) for mask in decoded.masks()] == [(1, 0)]


def without(dataset: Dataset, sequence: str, keyword: str) -> Dataset:
    del dataset[sequence][0][keyword]
    return dataset


@pytest.mark.parametrize(
    ("sequence", "keyword", "reason"),
    [
        ("StructureSetROISequence", "ROINumber", "an ROI has no ROINumber"),
        ("ROIContourSequence", "ReferencedROINumber", "contours have no ReferencedROINumber"),
    ],
)
def test_rois_without_a_number_are_refused(sequence: str, keyword: str, reason: str) -> None:
    with pytest.raises(InputRefused, match=reason):
        decode_rtstruct(without(structure_set([square(0.5, 3.5, 0.0)]), sequence, keyword), GRID)


def test_two_rois_of_one_number_are_refused() -> None:
    with pytest.raises(InputRefused, match="two ROIs have one ROINumber"):
        decode_rtstruct(structure_set([square(0.5, 3.5, 0.0)], [], numbers=(4, 4)), GRID)


def test_observations_without_an_roi_are_passed_over() -> None:
    dataset = structure_set([square(0.5, 3.5, 0.0)])
    dataset.RTROIObservationsSequence = [Dataset()]
    assert decode_rtstruct(dataset, GRID).label_volume.labels.any()


@pytest.mark.filterwarnings("ignore:Invalid value for VR IS")
def test_colors_that_are_no_numbers_are_refused() -> None:
    dataset = structure_set([square(0.5, 3.5, 0.0)])
    tag = Tag("ROIDisplayColor")
    dataset.ROIContourSequence[0][tag] = RawDataElement(tag, "IS", 6, b"r\\g\\b ", 0, True, True)
    with pytest.raises(InputRefused, match="the RT Structure Set is damaged"):
        decode_rtstruct(dataset, GRID)


@pytest.mark.filterwarnings("ignore:Invalid value for VR IS")
def test_damage_that_reading_the_masks_finds_is_refused() -> None:
    dataset = structure_set([square(0.5, 3.5, 0.0)])
    image, tag = Dataset(), Tag("ReferencedFrameNumber")
    image[tag] = RawDataElement(tag, "IS", 2, b"x ", 0, True, True)
    dataset.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [image]
    decoded = decode_rtstruct(dataset, GRID)
    with pytest.raises(InputRefused, match="the RT Structure Set is damaged"):
        list(decoded.masks())


@pytest.mark.parametrize("part", [0.3, 0.5, 0.8, 0.95])
def test_a_file_that_is_cut_off_is_refused(part: float) -> None:
    whole = to_bytes(encode_rtstruct(volume_of(phantom("axial")), labels_of(phantom("axial")), PROVENANCE))
    end = int(part * whole.index(b"\x06\x30\x80\x00"))  # within ROIContourSequence or before
    with pytest.raises(InputRefused):
        list(decode_rtstruct(read_object(whole[:end]), phantom("axial").geometry).masks())


def test_another_kind_of_object_is_refused() -> None:
    with pytest.raises(InputRefused, match="expected an RT Structure Set"):
        decode_rtstruct(Dataset(), GRID)


def test_bytes_that_are_no_dicom_file_are_refused() -> None:
    with pytest.raises(InputRefused, match="not a readable DICOM file"):
        read_object(b"not at all")


def test_a_clinical_structure_set_is_read_on_the_slices_at_hand(test_data: Path) -> None:
    """The set covers slices that are not there: those contours are taken away before."""
    folder = next(path for path in test_data.rglob("rtstruct_dicompyler") if path.is_dir())
    image, dataset = dcmread(next(folder.rglob("ct.0.dcm"))), dcmread(next(folder.rglob("rtss.dcm")))
    z = float(image.ImagePositionPatient[2])
    geometry = Geometry(
        origins=np.array([image.ImagePositionPatient], dtype=float),
        row_direction=np.array(image.ImageOrientationPatient[:3], dtype=float),
        column_direction=np.array(image.ImageOrientationPatient[3:], dtype=float),
        row_spacing=float(image.PixelSpacing[0]),
        column_spacing=float(image.PixelSpacing[1]),
        rows=int(image.Rows),
        columns=int(image.Columns),
        slice_thickness=3.0,
    )
    with pytest.raises(InputRefused, match="off the nearest"):
        list(decode_rtstruct(dataset, geometry).masks())
    for item in dataset.ROIContourSequence:
        here = [c for c in item.get("ContourSequence", []) if abs(float(c.ContourData[2]) - z) < 0.1]
        item.ContourSequence = here
    decoded = decode_rtstruct(dataset, geometry)
    assert decoded.label_volume.labels.any()
