from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_file import (
    read_label_file,
    write_label_file,
)
from tests.imaging.label_files import (
    ORIENTATIONS,
    UNEVEN,
    save,
    some_labels,
)
from tests.phantoms import PhantomSpec
from tests.phantoms.spec import geometry_of


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
