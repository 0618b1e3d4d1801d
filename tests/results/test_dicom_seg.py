from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.results.decoded import DecodedLabels
from dicom_node.results.dicom_seg import decode_seg, encode_seg
from dicom_node.results.object_file import read_object, to_bytes
from tests.results.sources import EVERY, PROVENANCE, REGULAR, labels_of, phantom, volume_of


def encoded(name: str) -> Dataset:
    return read_object(to_bytes(encode_seg(volume_of(phantom(name)), labels_of(phantom(name)), PROVENANCE)))


@pytest.fixture(scope="module")
def axial() -> Dataset:
    return encoded("axial")


@pytest.mark.parametrize("name", EVERY)
def test_every_voxel_comes_back(name: str) -> None:
    decoded = decode_seg(encoded(name), phantom(name).geometry)
    assert np.array_equal(decoded.label_volume.labels, phantom(name).labels)
    assert decoded.overlaps == 0


@pytest.mark.parametrize("name", ["axial", "oblique", "tilted", "enhanced CT"])
def test_label_maps_come_back_too(name: str) -> None:
    dataset = encode_seg(volume_of(phantom(name)), labels_of(phantom(name)), PROVENANCE, "LABELMAP")
    decoded = decode_seg(read_object(to_bytes(dataset)), phantom(name).geometry)
    assert np.array_equal(decoded.label_volume.labels, phantom(name).labels)


def test_labels_with_gaps_and_above_255_keep_their_numbers() -> None:
    source = phantom("axial")
    labels = source.labels.astype(np.uint16)
    labels[source.labels == 1] = 300
    structures = {300: load_anatomy()["Liver"], **{k: s for k, s in labels_of(source).structures.items() if k > 1}}
    label_volume = LabelVolume(labels, source.geometry, structures)
    dataset = encode_seg(volume_of(source), label_volume, PROVENANCE)
    decoded = decode_seg(read_object(to_bytes(dataset)), source.geometry)
    assert np.array_equal(decoded.label_volume.labels, labels)


def test_segments_are_numbered_from_one_without_gaps() -> None:
    labels = labels_of(phantom("axial"))
    without_first = replace(labels, labels=np.where(labels.labels == 1, 0, labels.labels).astype(np.uint8))
    dataset = encode_seg(volume_of(phantom("axial")), without_first, PROVENANCE)
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == list(range(1, 9))
    assert "Liver" not in {item.SegmentLabel for item in dataset.SegmentSequence}


def test_frames_without_voxels_are_left_out(axial: Dataset) -> None:
    labels = phantom("axial").labels
    with_voxels = sum(len(np.unique(plane[plane > 0])) for plane in labels)
    assert axial.NumberOfFrames == with_voxels


def test_every_frame_refers_to_the_slice_it_lies_on(axial: Dataset) -> None:
    volume = volume_of(phantom("axial"))
    for frame in axial.PerFrameFunctionalGroupsSequence:
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        (k,) = np.flatnonzero(np.abs(volume.geometry.origins - position).max(axis=1) < 1e-6)
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == volume.sources[k].sop_instance_uid
        assert reference.ReferencedSOPClassUID == volume.sources[k].sop_class_uid
        assert "ReferencedFrameNumber" not in reference


def test_frames_of_a_multi_frame_source_refer_to_its_frames() -> None:
    volume = volume_of(phantom("enhanced CT"))
    for frame in encoded("enhanced CT").PerFrameFunctionalGroupsSequence:
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        (k,) = np.flatnonzero(np.abs(volume.geometry.origins - position).max(axis=1) < 1e-6)
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == volume.sources[0].sop_instance_uid
        assert reference.ReferencedFrameNumber == volume.sources[k].frame_number


def test_every_source_instance_is_referenced_once(axial: Dataset) -> None:
    (series,) = axial.ReferencedSeriesSequence
    referenced = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert series.SeriesInstanceUID == volume_of(phantom("axial")).series_instance_uid
    assert referenced == [source.sop_instance_uid for source in volume_of(phantom("axial")).sources]
    assert [item.ReferencedSOPInstanceUID for item in axial.SourceImageSequence] == referenced


def test_no_stand_in_identifier_is_left(axial: Dataset) -> None:
    assert "2.25.1." not in str(axial)


@pytest.mark.parametrize("name", REGULAR)
def test_frame_of_reference_orientation_and_spacing_are_the_sources(name: str) -> None:
    dataset, volume = encoded(name), volume_of(phantom(name))
    shared = dataset.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    cosines = np.concatenate([volume.geometry.row_direction, volume.geometry.column_direction])
    assert dataset.FrameOfReferenceUID == volume.frame_of_reference_uid
    assert np.allclose(shared.PlaneOrientationSequence[0].ImageOrientationPatient, cosines, atol=1e-8)
    assert list(measures.PixelSpacing) == [volume.geometry.row_spacing, volume.geometry.column_spacing]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(volume.geometry.slice_spacing)


def test_segments_are_coded(axial: Dataset) -> None:
    kidney = next(item for item in axial.SegmentSequence if item.SegmentLabel == "Kidney_R")
    (kind,) = kidney.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("64033007", "SCT", "Kidney")
    assert [item.CodeMeaning for item in kind.SegmentedPropertyTypeModifierCodeSequence] == ["Right"]
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert len(kidney.RecommendedDisplayCIELabValue) == 3


def test_regions_and_modifiers_tell_structures_of_one_type_apart() -> None:
    anatomy, source = load_anatomy(), phantom("axial")
    names = {1: "Cartilage_Femur", 2: "Meniscus_Med"}
    structures = {**labels_of(source).structures, **{label: anatomy[name] for label, name in names.items()}}
    dataset = encode_seg(volume_of(source), LabelVolume(source.labels, source.geometry, structures), PROVENANCE)
    cartilage, meniscus = dataset.SegmentSequence[:2]
    assert cartilage.AnatomicRegionSequence[0].CodeMeaning == "Femur"
    (kind,) = meniscus.SegmentedPropertyTypeCodeSequence
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Medial"


def test_segments_say_which_algorithm_made_them(axial: Dataset) -> None:
    segment = axial.SegmentSequence[0]
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("AUTOMATIC", "torso")
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("torso", "1.2")
    assert PROVENANCE.weights_sha256 in algorithm.AlgorithmParameters


def test_segments_have_tracking_identifiers_of_their_own(axial: Dataset) -> None:
    assert len({item.TrackingUID for item in axial.SegmentSequence}) == len(axial.SegmentSequence)


def test_the_object_says_research_and_not_approved(axial: Dataset) -> None:
    assert axial.ContentDescription == "Automatic, not approved, for research use only"
    assert axial.SegmentationType == "BINARY"
    assert axial.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_dates_are_those_of_the_case(axial: Dataset) -> None:
    for prefix in ("Content", "Series", "InstanceCreation"):
        assert (axial[f"{prefix}Date"].value, axial[f"{prefix}Time"].value) == ("20260304", "050607")


def test_a_label_without_a_structure_is_a_mistake_of_the_caller() -> None:
    labels = labels_of(phantom("axial"))
    known = {label: structure for label, structure in labels.structures.items() if label != 4}
    with pytest.raises(ValueError, match=r"labels \[4\]"):
        encode_seg(volume_of(phantom("axial")), replace(labels, structures=known), PROVENANCE)


def test_structures_and_sides_are_read_back(axial: Dataset) -> None:
    decoded = decode_seg(axial, phantom("axial").geometry)
    assert decoded.label_volume.structures == labels_of(phantom("axial")).structures
    assert (decoded.lateralities[1], decoded.lateralities[2], decoded.lateralities[5]) == (None, "Right", "Left")


def test_a_segmentation_of_another_series_is_refused(axial: Dataset) -> None:
    with pytest.raises(InputRefused, match="does not lie on the pixels of the series"):
        decode_seg(axial, phantom("sagittal").geometry)


def test_another_kind_of_object_is_refused() -> None:
    with pytest.raises(InputRefused, match="expected a DICOM Segmentation"):
        decode_seg(phantom("axial").datasets[0], phantom("axial").geometry)


def test_pixel_data_that_ends_early_is_refused(axial: Dataset) -> None:
    short = read_object(to_bytes(axial))
    short.PixelData = short.PixelData[:-200]
    with pytest.raises(InputRefused, match="ends early"):
        decode_seg(short, phantom("axial").geometry)


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


def decode_foreign(test_data: Path, name: str) -> DecodedLabels:
    folder = next(path for path in test_data.rglob("ct_liver_3slice_with_SEG") if path.is_dir())
    geometry = geometry_of_files(sorted(folder.rglob("0?.dcm")))
    return decode_seg(read_object(next(folder.rglob(name))), geometry)


def test_a_segmentation_of_another_writer_is_read(test_data: Path) -> None:
    decoded = decode_foreign(test_data, "liver.dcm")
    (structure,) = decoded.label_volume.structures.values()
    assert "liver" in structure.name.lower()
    assert np.count_nonzero(decoded.label_volume.labels, axis=(1, 2)).all()


def test_overlapping_segments_of_another_writer_are_counted(test_data: Path) -> None:
    assert decode_foreign(test_data, "partial_overlaps.dcm").overlaps > 0


def decode_on_its_own_planes(dataset: Dataset) -> DecodedLabels:
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
        decode_on_its_own_planes(dcmread(find(test_data, "seg_transfer_syntaxes", "liver_rle.dcm")))


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
            decode_seg(dcmread(path), phantom("axial").geometry)


def find(test_data: Path, folder: str, name: str) -> Path:
    return next(path for path in test_data.rglob(name) if folder in path.parts)
