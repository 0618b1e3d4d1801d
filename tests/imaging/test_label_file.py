from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_file import (
    read_label_file,
    read_mask_file,
    read_probability_file,
    write_label_file,
    write_segment_file,
)
from dicom_node.imaging.label_volume import LabelVolume
from tests.phantoms import PhantomSpec
from tests.phantoms.spec import geometry_of

ORIENTATIONS = {
    "axial": PhantomSpec(slices=9, rows=12, columns=10),
    "sagittal": PhantomSpec(slices=9, rows=12, columns=10, orientation="sagittal"),
    "coronal": PhantomSpec(slices=9, rows=12, columns=10, orientation="coronal"),
    "oblique": PhantomSpec(slices=9, rows=12, columns=10, orientation="oblique"),
    "flipped": PhantomSpec(slices=9, rows=12, columns=10, flip_rows=True, flip_columns=True),
    "tilted": PhantomSpec(slices=9, rows=12, columns=10, tilt_degrees=18.0),
    "one slice": PhantomSpec(slices=1, rows=12, columns=10),
}
UNEVEN = PhantomSpec(rows=12, columns=10, positions=(0.0, 2.0, 4.0, 9.0, 14.0))


def some_labels(geometry: Geometry) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 7, geometry.shape).astype(np.uint8)


def save(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
def test_labels_come_back_on_their_voxels(name: str, suffix: str, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS[name])
    labels = some_labels(geometry)
    write_label_file(tmp_path / f"labels{suffix}", labels, geometry)
    label_file = read_label_file(tmp_path / f"labels{suffix}", geometry)
    assert np.array_equal(label_file.labels, labels)
    assert not label_file.resampled


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_files_may_store_their_axes_in_any_order_and_direction(order: tuple[int, ...], tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["oblique"])
    labels = some_labels(geometry)
    write_label_file(tmp_path / "labels.nii", labels, geometry)
    image = nib.load(tmp_path / "labels.nii")
    orientation = np.array([[axis, direction] for axis, direction in zip(order, (1, -1, -1), strict=True)])
    turned = image.as_reoriented(orientation)
    nib.save(turned, tmp_path / "turned.nii")
    label_file = read_label_file(tmp_path / "turned.nii", geometry)
    assert np.array_equal(label_file.labels, labels)
    assert not label_file.resampled


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("name", ["axial", "sagittal", "oblique", "flipped"])
def test_another_reader_finds_each_voxel_at_its_place_in_the_patient(name: str, suffix: str, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS[name])
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    labels[2, 3, 4] = 9
    write_label_file(tmp_path / f"labels{suffix}", labels, geometry)
    image = SimpleITK.ReadImage(str(tmp_path / f"labels{suffix}"))
    (point,) = geometry.index_to_patient(np.array([[2.0, 3.0, 4.0]]))
    assert image[image.TransformPhysicalPointToIndex(point.tolist())] == 9


def test_a_coarser_grid_is_resampled_to_the_nearest_voxel_and_said_so(tmp_path: Path) -> None:
    geometry = geometry_of(PhantomSpec(slices=6, rows=8, columns=8, row_spacing=1.0, column_spacing=1.0))
    coarse = np.arange(1, 4 * 4 * 6 + 1, dtype=np.uint8).reshape(4, 4, 6)  # (x, y, z), two pixels each way
    affine = geometry.affine[:, [2, 1, 0, 3]] @ np.diag([2, 2, 1, 1])
    affine[:3, 3] += geometry.affine[:3, [1, 2]].sum(axis=1) / 2
    path = save(tmp_path / "coarse.nii", coarse, np.diag([-1, -1, 1, 1]) @ affine)
    label_file = read_label_file(path, geometry)
    assert label_file.resampled
    assert np.array_equal(label_file.labels, coarse.transpose(2, 1, 0).repeat(2, axis=1).repeat(2, axis=2))


def test_outside_of_a_smaller_file_is_background(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    labels = some_labels(geometry) + 1
    ras = np.diag([-1, -1, 1, 1]) @ geometry.affine[:, [2, 1, 0, 3]]
    path = save(tmp_path / "part.nii", labels[:4].transpose(2, 1, 0), ras)
    label_file = read_label_file(path, geometry)
    assert not label_file.resampled
    assert np.array_equal(label_file.labels[:4], labels[:4])
    assert not label_file.labels[4:].any()


def test_a_finer_grid_that_holds_every_centre_is_another_grid(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    fine = np.zeros((19, 23, 17), dtype=np.uint8)
    fine[::2, ::2, ::2] = some_labels(geometry).transpose(2, 1, 0)
    lps = geometry.affine[:, [2, 1, 0, 3]] @ np.diag([0.5, 0.5, 0.5, 1])
    label_file = read_label_file(save(tmp_path / "fine.nii", fine, np.diag([-1, -1, 1, 1]) @ lps), geometry)
    assert label_file.resampled
    assert np.array_equal(label_file.labels, some_labels(geometry))


def test_labels_of_an_evenly_spaced_file_reach_uneven_slices(tmp_path: Path) -> None:
    geometry = geometry_of(UNEVEN)
    values = np.zeros((10, 12, 15), dtype=np.uint8) + np.arange(1, 16, dtype=np.uint8)
    lps = geometry.affine[:, [2, 1, 0, 3]]
    lps[:3, 2] = geometry.normal
    path = save(tmp_path / "even.nii", values, np.diag([-1, -1, 1, 1]) @ lps)
    labels = read_label_file(path, geometry).labels
    assert labels[:, 0, 0].tolist() == [1, 3, 5, 10, 15]


def test_uneven_slices_are_not_written(tmp_path: Path) -> None:
    geometry = geometry_of(UNEVEN)
    with pytest.raises(InputRefused, match=r"2\.00 to 5\.00 mm apart"):
        write_label_file(tmp_path / "labels.nii", some_labels(geometry), geometry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_whole_numbers_of_any_storage_type_are_labels(dtype: type, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    labels = some_labels(geometry)
    ras = np.diag([-1, -1, 1, 1]) @ geometry.affine[:, [2, 1, 0, 3]]
    path = save(tmp_path / "labels.nii", labels.transpose(2, 1, 0).astype(dtype), ras)
    assert np.array_equal(read_label_file(path, geometry).labels, labels)


def test_labels_above_255_are_kept(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    labels = some_labels(geometry).astype(np.uint16) * 1000
    write_label_file(tmp_path / "labels.nii", labels, geometry)
    read = read_label_file(tmp_path / "labels.nii", geometry).labels
    assert read.dtype == np.uint16
    assert np.array_equal(read, labels)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((10, 12, 9), 0.5, dtype=np.float32), "no whole numbers"),
        (np.full((10, 12, 9), -1, dtype=np.int16), "from -1 to -1"),
        (np.full((10, 12, 9), np.nan, dtype=np.float32), "labels go from nan"),
        (np.zeros((10, 12, 9, 3), dtype=np.uint8), "expected three dimensions"),
    ],
)
def test_what_is_no_label_map_is_refused(values: np.ndarray, reason: str, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    path = save(tmp_path / "wrong.nii", values, np.diag([-1, -1, 1, 1]) @ geometry.affine[:, [2, 1, 0, 3]])
    with pytest.raises(InputRefused, match=reason):
        read_label_file(path, geometry)


def test_a_file_that_does_not_meet_the_series_is_refused(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    affine = np.eye(4)
    affine[:3, 3] = 5000
    path = save(tmp_path / "far.nii", np.ones((4, 4, 4), dtype=np.uint8), affine)
    with pytest.raises(InputRefused, match="none of its voxels lies in the series"):
        read_label_file(path, geometry)


def test_a_file_without_a_place_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((4, 4, 4), dtype=np.uint8), None)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, tmp_path / "nowhere.nii")
    with pytest.raises(InputRefused, match="neither sform nor qform"):
        read_label_file(tmp_path / "nowhere.nii", geometry_of(ORIENTATIONS["axial"]))


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x1f\x8b broken"])
def test_a_file_that_is_no_image_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(content)
    with pytest.raises(InputRefused, match=r"broken\.nii\.gz"):
        read_label_file(path, geometry_of(ORIENTATIONS["axial"]))


def nrrd_header(geometry: Geometry, **changes: object) -> dict[str, object]:
    """Of an array with axes (x, y, z) on the grid of a series; None takes a field away."""
    header = {
        "space": "left-posterior-superior",
        "space directions": geometry.affine[:3, [2, 1, 0]].T,
        "space origin": geometry.affine[:3, 3],
        "kinds": ["domain"] * 3,
        **{key.replace("_", " ") if not key.startswith("Segment") else key: value for key, value in changes.items()},
    }
    return {key: value for key, value in header.items() if value is not None}


def layered_header(geometry: Geometry, **changes: object) -> dict[str, object]:
    directions = np.vstack([[np.nan] * 3, geometry.affine[:3, [2, 1, 0]].T])
    return nrrd_header(geometry, space_directions=directions, kinds=["list", *["domain"] * 3], **changes)


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


def save_probability(path: Path, values: np.ndarray, geometry: Geometry) -> Path:
    return save(path, values.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ geometry.affine[:, [2, 1, 0, 3]])


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_probabilities_on_the_series_grid_are_copied(name: str, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS[name])
    values = np.random.default_rng(1).random(geometry.shape, dtype=np.float32)
    path = save_probability(tmp_path / "p.nii.gz", values, geometry)
    read = read_probability_file(path, geometry).probability
    assert read.dtype == np.float32
    assert np.array_equal(read, values)


@pytest.mark.parametrize("name", ["axial", "oblique", "sagittal"])
def test_probabilities_of_another_grid_are_interpolated(name: str, tmp_path: Path) -> None:
    """A field that is linear in the patient is the same on every grid."""
    series = geometry_of(ORIENTATIONS[name])
    coarse = geometry_of(PhantomSpec(slices=30, rows=30, columns=30, row_spacing=2, column_spacing=2, slice_spacing=3))

    def field(geometry: Geometry) -> np.ndarray:
        kji = np.indices(geometry.shape).reshape(3, -1).T.astype(float)
        return (0.5 + (geometry.index_to_patient(kji) - series.origins[0]) @ [0.004, -0.003, 0.002]).reshape(
            geometry.shape
        )

    path = save_probability(tmp_path / "p.nii", field(coarse).astype(np.float32), coarse)
    assert np.abs(read_probability_file(path, series).probability - field(series)).max() < 1e-4


def test_probabilities_end_where_their_file_ends(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    part = Geometry(
        geometry.origins[:4] + np.array([0.3, 0, 0]),
        *(geometry.row_direction, geometry.column_direction, 1.5, 1.0, 12, 10),
    )
    path = save_probability(tmp_path / "p.nii", np.ones((4, 12, 10), dtype=np.float32), part)
    read = read_probability_file(path, geometry).probability
    assert (read[:4] == 1).all()
    assert not read[4:].any()


def test_rounding_beyond_one_is_taken_off(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    path = save_probability(tmp_path / "p.nii", np.full(geometry.shape, 1.00001, dtype=np.float32), geometry)
    assert (read_probability_file(path, geometry).probability == 1).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((9, 12, 10), 1.5, dtype=np.float32), "from 1.5 to 1.5"),
        (np.full((9, 12, 10), -0.5, dtype=np.float32), "from -0.5"),
        (np.full((9, 12, 10), np.nan, dtype=np.float32), "from nan"),
        (np.ones((9, 12, 10), dtype=np.uint8), "uint8 values; expected fractions"),
    ],
)
def test_what_is_no_probability_is_refused(values: np.ndarray, reason: str, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    with pytest.raises(InputRefused, match=reason):
        read_probability_file(save_probability(tmp_path / "p.nii", values, geometry), geometry)


@pytest.mark.parametrize("inside", [1, 255, -3, 0.4])
def test_a_mask_is_whatever_is_not_zero(inside: float, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["oblique"])
    mask = some_labels(geometry) > 3
    path = save_probability(tmp_path / "liver.nii.gz", np.where(mask, inside, 0).astype(np.float32), geometry)
    mask_file = read_mask_file(path, geometry)
    assert np.array_equal(mask_file.mask, mask)
    assert not mask_file.resampled


def test_a_mask_is_numbers_of_one_structure(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    path = save_probability(tmp_path / "m.nii", np.full(geometry.shape, np.nan, dtype=np.float32), geometry)
    with pytest.raises(InputRefused, match="NaN"):
        read_mask_file(path, geometry)
    values = np.ones((2, 10, 12, 9), dtype=np.uint8)
    header = layered_header(geometry, Segment0_Name="First", Segment1_Name="Second")
    nrrd.write(str(tmp_path / "two.seg.nrrd"), values, header)
    with pytest.raises(InputRefused, match="holds several layers"):
        read_mask_file(tmp_path / "two.seg.nrrd", geometry)
    with pytest.raises(InputRefused, match="holds several layers"):
        read_probability_file(tmp_path / "two.seg.nrrd", geometry)


@pytest.mark.parametrize(
    "name",
    [
        "knee_labelmap_pymskt/SAG_3D_DESS_RIGHT_bones_cart_men_fib-label.nrrd",
        "labelmap_spl_knee/seg.nrrd",
        "ct_abdomen_pelvis_TS_example/example_seg.nii.gz",
    ],
)
def test_real_label_maps_lie_where_another_reader_sees_them(test_data: Path, name: str) -> None:
    """Resampled onto oblique planes through the middle of the label map, as SimpleITK resamples it."""
    image = SimpleITK.ReadImage(str(test_data / name))
    middle = image.TransformContinuousIndexToPhysicalPoint([size / 2 for size in image.GetSize()])
    planes = geometry_of(PhantomSpec(slices=12, rows=60, columns=50, orientation="oblique"))
    geometry = Geometry(
        planes.origins
        - planes.origins[6]
        + np.array(middle)
        - planes.row_direction * 25
        - planes.column_direction * 45,
        *(planes.row_direction, planes.column_direction, 1.5, 1.0, 60, 50),
    )
    reference = SimpleITK.Image([50, 60, 12], SimpleITK.sitkInt16)
    reference.SetOrigin(geometry.origins[0].tolist())
    reference.SetSpacing([1.0, 1.5, 3.0])
    axes = np.stack([geometry.row_direction, geometry.column_direction, geometry.normal], axis=1)
    reference.SetDirection(axes.ravel().tolist())
    expected = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(image, reference, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0)
    )
    label_file = read_label_file(test_data / name, geometry)
    assert label_file.resampled
    assert len(np.unique(expected)) > 3
    assert (label_file.labels == expected).mean() > 0.9999


def counted_outside(labels: np.ndarray, file: Geometry, series: Geometry) -> dict[int, int]:
    """Voxel by voxel: by the distance to the nearest voxel centre of the series along each of its axes."""
    counts: dict[int, int] = {}
    for index in np.argwhere(labels):
        (place,) = file.index_to_patient(index[None].astype(float))
        offset = place - series.origins[np.abs(series.distances - place @ series.normal).argmin()]
        steps = np.array(
            [
                abs(offset @ series.normal) / series.slice_spacing,
                offset @ series.column_direction / series.row_spacing,
                offset @ series.row_direction / series.column_spacing,
            ]
        )
        if steps[0] > 0.5 or (steps[1:] < -0.5).any() or (steps[1:] > np.array(series.shape[1:]) - 0.5).any():
            label = int(labels[tuple(index)])
            counts[label] = counts.get(label, 0) + 1
    return dict(sorted(counts.items()))


def part_of(geometry: Geometry, slices: slice, row: int, column: int) -> Geometry:
    """Some slices of a geometry, from a row and a column on."""
    shift = row * geometry.row_spacing * geometry.column_direction
    shift = shift + column * geometry.column_spacing * geometry.row_direction
    return Geometry(
        geometry.origins[slices] + shift,
        *(geometry.row_direction, geometry.column_direction, geometry.row_spacing, geometry.column_spacing),
        *(geometry.rows - row, geometry.columns - column),
        geometry.slice_thickness,
    )


@pytest.mark.parametrize("name", [name for name in ORIENTATIONS if name != "one slice"])
@pytest.mark.parametrize(("slices", "row", "column"), [(slice(2, 7), 0, 0), (slice(0, 9), 3, 4), (slice(4, 5), 0, 1)])
def test_voxels_beyond_the_series_are_counted(name: str, slices: slice, row: int, column: int, tmp_path: Path) -> None:
    whole = geometry_of(ORIENTATIONS[name])
    series = part_of(whole, slices, row, column)
    if len(series.origins) == 1:
        series = Geometry(**{**vars(series), "slice_thickness": whole.slice_spacing})
    labels = some_labels(whole)
    write_label_file(tmp_path / "whole.nii.gz", labels, whole)
    found = read_label_file(tmp_path / "whole.nii.gz", series)
    kept = found.labels
    assert found.outside == {
        label: int((labels == label).sum() - (kept == label).sum())
        for label in range(1, 7)
        if (labels == label).sum() > (kept == label).sum()
    }
    assert len(found.outside) == 6


@pytest.mark.parametrize("shift", [0.0, 3.3, -7.1])
def test_voxels_of_another_grid_beyond_the_series_are_counted(shift: float, tmp_path: Path) -> None:
    series = geometry_of(ORIENTATIONS["oblique"])
    fine = Geometry(
        series.origins[0] + np.arange(14)[:, None] * 1.7 * series.normal + shift * series.row_direction,
        *(series.row_direction, series.column_direction, 0.61, 1.3, 25, 17),
    )
    labels = some_labels(fine)
    write_label_file(tmp_path / "fine.nrrd", labels, fine)
    found = read_label_file(tmp_path / "fine.nrrd", series)
    assert found.resampled
    assert found.outside == counted_outside(labels, fine, series)


def test_nothing_of_a_file_within_the_series_is_outside(tmp_path: Path) -> None:
    whole = geometry_of(ORIENTATIONS["oblique"])
    part = part_of(whole, slice(2, 7), 3, 4)
    write_label_file(tmp_path / "part.nii.gz", some_labels(part), part)
    assert read_label_file(tmp_path / "part.nii.gz", whole).outside == {}


def test_masks_and_probabilities_beyond_the_series_are_counted(tmp_path: Path) -> None:
    whole = geometry_of(ORIENTATIONS["sagittal"])
    series = part_of(whole, slice(0, 6), 2, 0)
    probability = np.random.default_rng(3).random(whole.shape, dtype=np.float32)
    path = save_probability(tmp_path / "p.nii.gz", probability, whole)
    inside = probability >= 0.5
    lost = int(inside.sum() - inside[:6, 2:].sum())
    assert read_probability_file(path, series).outside == lost > 0
    path = save_probability(tmp_path / "m.nii.gz", inside.astype(np.uint8), whole)
    assert read_mask_file(path, series).outside == lost
