from __future__ import annotations

from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import InputRefused
from dicom_node.imaging.label_file import (
    read_label_file,
    write_label_file,
    write_segment_file,
)
from dicom_node.imaging.label_volume import LabelVolume
from tests.imaging.label_files import (
    ORIENTATIONS,
    layered_header,
    nrrd_header,
    some_labels,
)
from tests.phantoms.spec import geometry_of


@pytest.mark.parametrize("compressed", [True, False])
def test_nrrd_files_of_another_writer(compressed: bool, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["oblique"])
    labels = some_labels(geometry).astype(np.int16)
    image = SimpleITK.GetImageFromArray(labels)
    image.SetOrigin(geometry.origins[0].tolist())
    image.SetSpacing([geometry.column_spacing, geometry.row_spacing, geometry.slice_spacing])
    directions = np.stack([geometry.row_direction, geometry.column_direction, geometry.normal], axis=1)
    image.SetDirection(directions.ravel().tolist())
    SimpleITK.WriteImage(image, str(tmp_path / "labels.nrrd"), useCompression=compressed)
    label_file = read_label_file(tmp_path / "labels.nrrd", geometry)
    assert np.array_equal(label_file.labels, labels)
    assert not label_file.resampled


@pytest.mark.parametrize(
    ("space", "signs"),
    [("right-anterior-superior", (-1, -1, 1)), ("RAS", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1))],
)
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
def test_nrrd_spaces_and_encodings(space: str, signs: tuple[int, int, int], encoding: str, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["oblique"])
    labels = some_labels(geometry)
    header = nrrd_header(
        geometry,
        space=space,
        encoding=encoding,
        space_directions=geometry.affine[:3, [2, 1, 0]].T * signs,
        space_origin=geometry.affine[:3, 3] * signs,
    )
    nrrd.write(str(tmp_path / "labels.nrrd"), labels.transpose(2, 1, 0), header)
    assert np.array_equal(read_label_file(tmp_path / "labels.nrrd", geometry).labels, labels)


def test_nifti_2_is_read(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["oblique"])
    labels = some_labels(geometry)
    ras = np.diag([-1, -1, 1, 1]) @ geometry.affine[:, [2, 1, 0, 3]]
    nib.save(nib.Nifti2Image(labels.transpose(2, 1, 0), ras), tmp_path / "labels.nii.gz")
    assert np.array_equal(read_label_file(tmp_path / "labels.nii.gz", geometry).labels, labels)


def test_a_segmentation_of_slicer_that_was_cropped(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["oblique"])
    labels = some_labels(geometry)
    part = labels[2:7, 3:9, 1:8]
    header = nrrd_header(
        geometry,
        space_origin=geometry.index_to_patient(np.array([[2.0, 3.0, 1.0]]))[0],
        Segment0_ID="Segment_1",
        Segment0_Name="Liver and more",
        Segment0_LabelValue="3",
        Segment0_Layer="0",
    )
    nrrd.write(str(tmp_path / "cropped.seg.nrrd"), part.transpose(2, 1, 0), header)
    label_file = read_label_file(tmp_path / "cropped.seg.nrrd", geometry)
    assert not label_file.resampled
    assert label_file.names == {3: "Liver and more"}
    assert np.array_equal(label_file.labels[2:7, 3:9, 1:8], part)
    assert np.count_nonzero(label_file.labels) == np.count_nonzero(part)


def test_overlapping_segments_of_slicer_are_layers_whose_labels_are_their_own(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    body = np.ones(geometry.shape, dtype=np.uint8)
    organs = np.zeros(geometry.shape, dtype=np.uint8)
    organs[2:4, 2:5, 3:6], organs[5:7, 6:9, 1:4] = 1, 2
    segments = {}
    for number, (name, value, layer) in enumerate([("Body", 1, 0), ("Liver", 1, 1), ("Spleen", 2, 1)]):
        segments |= {
            f"Segment{number}_Name": name,
            f"Segment{number}_LabelValue": str(value),
            f"Segment{number}_Layer": str(layer),
        }
    values = np.stack([body.transpose(2, 1, 0), organs.transpose(2, 1, 0)])
    nrrd.write(str(tmp_path / "both.seg.nrrd"), values, layered_header(geometry, **segments))
    label_file = read_label_file(tmp_path / "both.seg.nrrd", geometry)
    assert label_file.names == {1: "Body", 3: "Liver", 2: "Spleen"}
    assert np.array_equal(label_file.labels, body)
    (overlay,) = label_file.overlays
    assert np.array_equal(overlay == 3, organs == 1)
    assert np.array_equal(overlay == 2, organs == 2)


def test_older_files_of_slicer_have_one_layer_a_segment(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    layers = np.zeros((2, *geometry.shape), dtype=np.uint8)
    layers[0, 1:5], layers[1, 4:8] = 1, 1
    header = layered_header(geometry, Segment0_Name="First", Segment1_Name="Second")
    nrrd.write(str(tmp_path / "old.seg.nrrd"), layers.transpose(0, 3, 2, 1), header)
    label_file = read_label_file(tmp_path / "old.seg.nrrd", geometry)
    assert label_file.names == {1: "First", 2: "Second"}
    assert np.array_equal(label_file.labels, layers[0])
    assert np.array_equal(label_file.overlays[0], layers[1] * 2)


def test_a_list_of_one_is_no_further_dimension(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    labels = some_labels(geometry)
    nrrd.write(str(tmp_path / "one.nrrd"), labels.transpose(2, 1, 0)[None], layered_header(geometry))
    assert np.array_equal(read_label_file(tmp_path / "one.nrrd", geometry).labels, labels)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"space": None, "space_dimension": 3}, "does not say where it lies"),
        ({"space": "scanner-xyz"}, "got space scanner-xyz"),
        ({"space_origin": None}, "does not say where it lies"),
        ({"space_directions": np.zeros((3, 3))}, "span no volume"),
        ({"space_units": ["cm", "cm", "cm"]}, "expected millimetres, got cm"),
        ({"Segment0_Name": "Liver", "Segment0_LabelValue": "one"}, "whole numbers, got 0 and one"),
    ],
)
def test_nrrd_files_without_a_place_are_refused(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    values = some_labels(geometry).transpose(2, 1, 0)
    nrrd.write(str(tmp_path / "wrong.nrrd"), values, nrrd_header(geometry, **changes))
    with pytest.raises(InputRefused, match=reason):
        read_label_file(tmp_path / "wrong.nrrd", geometry)


def test_layers_that_no_one_explains_are_refused(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    values = np.stack([some_labels(geometry).transpose(2, 1, 0)] * 2)
    nrrd.write(str(tmp_path / "two.nrrd"), values, layered_header(geometry))
    with pytest.raises(InputRefused, match="one label map, not several"):
        read_label_file(tmp_path / "two.nrrd", geometry)
    header = layered_header(geometry, Segment0_Name="Liver", Segment0_Layer="2", Segment0_LabelValue="1")
    nrrd.write(str(tmp_path / "third.nrrd"), values, header)
    with pytest.raises(InputRefused, match="in a layer that is not there; it has 2"):
        read_label_file(tmp_path / "third.nrrd", geometry)


def test_a_header_that_points_to_another_file_is_not_followed(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    values = some_labels(geometry).transpose(2, 1, 0)
    nrrd.write(str(tmp_path / "labels.nhdr"), values, nrrd_header(geometry), detached_header=True)
    with pytest.raises(InputRefused, match="its voxels are in another file"):
        read_label_file(tmp_path / "labels.nhdr", geometry)


@pytest.mark.parametrize("kept", [6, 60, 300, 700])
def test_a_cut_nrrd_file_is_refused(kept: int, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    path = tmp_path / "cut.nrrd"
    write_label_file(path, some_labels(geometry), geometry)
    assert path.stat().st_size > kept
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputRefused, match=r"cut\.nrrd"):
        read_label_file(path, geometry)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"absent\.nii: cannot be read"):
        read_label_file(tmp_path / "absent.nii", geometry_of(ORIENTATIONS["axial"]))


def test_nrrd_files_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["oblique"])
    for name in ("first.nrrd", "second.nrrd"):
        write_label_file(tmp_path / name, some_labels(geometry), geometry)
    assert (tmp_path / "first.nrrd").read_bytes() == (tmp_path / "second.nrrd").read_bytes()


@pytest.mark.parametrize("overlapping", [True, False])
def test_a_label_volume_survives_as_a_segmentation_of_slicer(overlapping: bool, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["tilted"])
    anatomy = load_anatomy()
    labels = some_labels(geometry) // 3
    body = LabelVolume(np.full(geometry.shape, 300, dtype=np.uint16), geometry, {300: anatomy["Spleen"]})
    label_volume = LabelVolume(
        labels, geometry, {1: anatomy["Liver"], 2: anatomy["Kidney_L"]}, overlays=(body,) if overlapping else ()
    )
    write_segment_file(tmp_path / "all.seg.nrrd", label_volume)
    label_file = read_label_file(tmp_path / "all.seg.nrrd", geometry)
    assert np.array_equal(label_file.labels, labels)
    assert label_file.names == {1: "Liver", 2: "Kidney_L"} | ({300: "Spleen"} if overlapping else {})
    assert len(label_file.overlays) == overlapping
    assert all(np.array_equal(overlay, body.labels) for overlay in label_file.overlays)
    header = nrrd.read_header(str(tmp_path / "all.seg.nrrd"))
    red, green, blue = (round(255 * float(channel)) for channel in header["Segment0_Color"].split())
    assert (red, green, blue) == anatomy["Liver"].color
    assert f"SCT^{anatomy['Liver'].type.value}^" in header["Segment0_Tags"]
