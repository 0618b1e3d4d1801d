from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import Geometry
from dicom_node.results.decoded import DecodedObject
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import read_object, to_bytes
from dicom_node.results.seg_decoding import decode_seg
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of


@pytest.fixture(scope="module")
def axial() -> Dataset:
    return read_object(to_bytes(encode_seg(volume_of(phantom("axial")), labels_of(phantom("axial")), PROVENANCE)))


def test_structures_and_sides_are_read_back(axial: Dataset) -> None:
    decoded = decode_seg(axial, phantom("axial").geometry)
    assert decoded.label_volume.structures == labels_of(phantom("axial")).structures
    assert (decoded.lateralities[1], decoded.lateralities[2], decoded.lateralities[5]) == (None, "Right", "Left")


def test_a_segmentation_of_another_series_is_refused(axial: Dataset) -> None:
    with pytest.raises(InputRefused, match="does not lie on the pixels of the series"):
        assert decode_seg(axial, phantom("sagittal").geometry).label_volume


def test_another_kind_of_object_is_refused() -> None:
    with pytest.raises(InputRefused, match="expected a DICOM Segmentation"):
        decode_seg(phantom("axial").datasets[0], phantom("axial").geometry)


def test_pixel_data_that_ends_early_is_refused(axial: Dataset) -> None:
    short = read_object(to_bytes(axial))
    short.PixelData = short.PixelData[:-200]
    with pytest.raises(InputRefused, match="ends early"):
        assert decode_seg(short, phantom("axial").geometry).label_volume


def geometry_of_files(paths: list[Path]) -> Geometry:
    slices = sorted((dcmread(path) for path in paths), key=lambda item: float(item.ImagePositionPatient[2]))
    first = slices[0]
    return Geometry(
        origins=np.array([item.ImagePositionPatient for item in slices], dtype=float),
        row_direction=np.array(first.ImageOrientationPatient[:3], dtype=float),
        column_direction=np.array(first.ImageOrientationPatient[3:], dtype=float),
        row_spacing=float(first.PixelSpacing[0]),
        column_spacing=float(first.PixelSpacing[1]),
        rows=int(first.Rows),
        columns=int(first.Columns),
    )


def decode_foreign(test_data: Path, name: str) -> DecodedObject:
    folder = next(path for path in test_data.rglob("ct_liver_3slice_with_SEG") if path.is_dir())
    geometry = geometry_of_files(sorted(folder.rglob("0?.dcm")))
    return decode_seg(read_object(next(folder.rglob(name))), geometry)


def test_a_segmentation_of_another_writer_is_read(test_data: Path) -> None:
    decoded = decode_foreign(test_data, "liver.dcm")
    (structure,) = decoded.label_volume.structures.values()
    assert "liver" in structure.name.lower()
    assert np.count_nonzero(decoded.label_volume.labels, axis=(1, 2)).all()


def test_overlapping_segments_of_another_writer_are_both_kept(test_data: Path) -> None:
    assert decode_foreign(test_data, "partial_overlaps.dcm").label_volume.overlays


def decode_on_its_own_planes(dataset: Dataset) -> DecodedObject:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    frames = dataset.PerFrameFunctionalGroupsSequence
    positions = {tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient)) for frame in frames}
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    geometry = Geometry(
        origins=np.array(sorted(positions, key=lambda position: position[2])),
        row_direction=cosines[:3],
        column_direction=cosines[3:],
        row_spacing=float(spacing[0]),
        column_spacing=float(spacing[1]),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
    )
    return decode_seg(dataset, geometry)


@pytest.mark.parametrize("name", ["liver_expb.dcm", "liver_j2k.dcm"])
def test_other_transfer_syntaxes_hold_the_same_voxels(test_data: Path, name: str) -> None:
    labels, plain = (
        decode_on_its_own_planes(dcmread(find(test_data, "seg_transfer_syntaxes", file))).label_volume.labels
        for file in (name, "liver.dcm")
    )
    assert plain.any()
    assert np.array_equal(labels, plain)


def test_frames_that_do_not_end_on_a_byte_are_read(test_data: Path) -> None:
    first, second = (
        decode_on_its_own_planes(dcmread(find(test_data, "seg_transfer_syntaxes", file))).label_volume.labels
        for file in ("liver_nonbyte_aligned.dcm", "liver_nonbyte_aligned_j2k.dcm")
    )
    assert first.any()
    assert np.array_equal(first, second)


def test_pixel_data_that_no_plugin_decodes_is_refused_with_a_reason(test_data: Path) -> None:
    with pytest.raises(InputRefused, match=r"cannot be decoded \(RLE Lossless\)"):
        assert decode_on_its_own_planes(dcmread(find(test_data, "seg_transfer_syntaxes", "liver_rle.dcm"))).label_volume


@pytest.mark.parametrize("kind", ["binary", "binary_overlap", "binary_fractional", "true_fractional"])
def test_every_segmentation_type_of_another_writer_is_read(test_data: Path, kind: str) -> None:
    dataset = dcmread(find(test_data, "highdicom_small", f"seg_image_ct_{kind}.dcm"))
    assert decode_on_its_own_planes(dataset).label_volume.labels.any()


def test_segmentations_of_other_images_are_refused_with_a_reason(test_data: Path) -> None:
    """Of slides, of projections without a place: nothing of the kind lies on the phantom's slices."""
    paths = sorted(path for path in test_data.rglob("seg_image_*.dcm") if "highdicom_small" in path.parts)
    assert len(paths) > 8
    for path in paths:
        with pytest.raises(InputRefused):
            assert decode_seg(dcmread(path), phantom("axial").geometry).label_volume


def find(test_data: Path, folder: str, name: str) -> Path:
    return next(path for path in test_data.rglob(name) if folder in path.parts)
