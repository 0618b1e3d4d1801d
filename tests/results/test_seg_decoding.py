from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.anatomy import LATERALITIES, Code, load_anatomy
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import Geometry
from dicom_node.profiles import Profile
from dicom_node.results.decoded import DecodedObject
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import read_object, to_bytes
from dicom_node.results.rtstruct import encode_rtstruct
from dicom_node.results.rtstruct_decoding import decode_rtstruct
from dicom_node.results.seg_decoding import _frames_of_bits, decode_seg
from dicom_node.results.verification import verify_rtstruct, verify_seg
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of


@pytest.fixture(scope="module")
def axial() -> Dataset:
    return read_object(to_bytes(encode_seg(volume_of(phantom("axial")), labels_of(phantom("axial")), PROVENANCE)))


def test_structures_and_sides_are_read_back(axial: Dataset) -> None:
    decoded = decode_seg(axial, phantom("axial").geometry)
    assert decoded.label_volume.structures == labels_of(phantom("axial")).structures
    assert (decoded.lateralities[1], decoded.lateralities[2], decoded.lateralities[5]) == (None, "24028007", "7771000")


@pytest.mark.parametrize(
    ("value", "meaning"), [("51440002", "Right and left"), ("51440002", "Bilateral"), ("66459002", "Unilateral")]
)
@pytest.mark.parametrize("kind", ["SEG", "RTSTRUCT"])
def test_every_side_comes_back_by_its_code(kind: str, value: str, meaning: str) -> None:
    source = phantom("axial")
    labels = labels_of(source)
    both = replace(labels.structures[1], name="Lungs", laterality=Code(value, meaning))
    labels = replace(labels, structures={**labels.structures, 1: both})
    encode, decode, verify = {
        "SEG": (encode_seg, decode_seg, verify_seg),
        "RTSTRUCT": (encode_rtstruct, decode_rtstruct, verify_rtstruct),
    }[kind]
    dataset = to_bytes(encode(volume_of(source), labels, PROVENANCE))
    decoded = decode(read_object(dataset), source.geometry)
    assert decoded.lateralities[1] == value
    assert decoded.structures[1].laterality == Code(value, LATERALITIES[value])
    assert {check.laterality_ok for check in verify(dataset, labels, volume_of(source)).checks} == {True}


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


def test_frames_that_are_not_described_are_refused(axial: Dataset) -> None:
    for change in (-1, 1):
        dataset = read_object(to_bytes(axial))
        dataset.NumberOfFrames = int(dataset.NumberOfFrames) + change
        with pytest.raises(InputRefused, match=f"NumberOfFrames is {dataset.NumberOfFrames}, but .* describes"):
            decode_seg(dataset, phantom("axial").geometry)


def test_segments_without_a_number_of_their_own_are_refused(axial: Dataset) -> None:
    dataset = read_object(to_bytes(axial))
    dataset.SegmentSequence[0].SegmentNumber = 2
    with pytest.raises(InputRefused, match="two segments have one SegmentNumber"):
        decode_seg(dataset, phantom("axial").geometry)
    del dataset.SegmentSequence[0].SegmentNumber
    with pytest.raises(InputRefused, match="a segment has no SegmentNumber"):
        decode_seg(dataset, phantom("axial").geometry)


def test_damage_that_reading_the_masks_finds_is_refused(axial: Dataset) -> None:
    dataset = read_object(to_bytes(axial))
    dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient = [1.0, 2.0]
    decoded = decode_seg(dataset, phantom("axial").geometry)
    with pytest.raises(InputRefused, match="the segmentation is damaged or incomplete"):
        list(decoded.masks())


def test_structures_are_known_by_our_name_whatever_a_site_calls_them() -> None:
    source, profile = phantom("axial"), Profile(names={"Liver": "Hepar"})
    dataset = read_object(to_bytes(encode_seg(volume_of(source), labels_of(source), PROVENANCE, profile)))
    decoded = decode_seg(dataset, source.geometry)
    (label,) = (label for label, name in source.names.items() if name == "Liver")
    assert (decoded.names[label], decoded.structures[label]) == ("Hepar", load_anatomy()["Liver"])
    dataset.Manufacturer = "Somebody"  # whose TrackingID is a name of his own
    assert {structure.name for structure in decode_seg(dataset, source.geometry).structures.values()} >= {"Hepar"}


@pytest.mark.parametrize("name", ["axial", "odd pixels"])
def test_masks_are_windows_of_the_rows_that_hold_voxels(name: str) -> None:
    source = phantom(name)
    dataset = read_object(to_bytes(encode_seg(volume_of(source), labels_of(source), PROVENANCE)))
    masks = list(decode_seg(dataset, source.geometry).masks())
    for mask in masks:
        held = np.flatnonzero((source.labels[mask.k] == mask.label).any(axis=1))
        assert held[0] - 8 < mask.rows.start <= held[0] <= held[-1] < mask.rows.stop < held[-1] + 9
        assert np.array_equal(mask.mask, source.labels[mask.k, mask.rows, mask.columns] == mask.label)
    assert min(len(mask.mask) for mask in masks) < source.geometry.rows / 2


@pytest.mark.parametrize("size", [(3, 5), (8, 8), (1, 1), (7, 1), (1, 9)])
def test_packed_frames_are_read_bit_by_bit(size: tuple[int, int]) -> None:
    """Frames that share bytes, empty ones, voxels in every corner."""
    rng = np.random.default_rng(8)
    frames = (rng.random((60, *size)) < rng.choice([0, 0.02, 0.3, 1], 60)[:, None, None]).astype(np.uint8)
    dataset = Dataset()
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = *size, len(frames)
    dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    for expected, (rows, found) in zip(frames, _frames_of_bits(dataset), strict=True):
        whole = np.zeros(size, dtype=np.uint8)
        whole[rows] = found
        assert np.array_equal(whole, expected)


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
