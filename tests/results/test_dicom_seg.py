from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import InputRefused
from dicom_node.imaging.certainty import Certainty
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.profiles import Profile
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.identity import derived_uid
from dicom_node.results.object_file import read_object, to_bytes, write_object
from dicom_node.results.seg_decoding import decode_seg
from dicom_node.results.verification import verify_seg
from tests.judges import dciodvfy
from tests.phantoms import PhantomSpec, build
from tests.results.sources import EVERY, PROVENANCE, REGULAR, labels_of, phantom, volume_of

KINDS = ["BINARY", "LABELMAP", "FRACTIONAL"]


def encoded(name: str, **options: Any) -> Dataset:
    return encoded_labels(name, labels_of(phantom(name)), **options)


def encoded_labels(name: str, labels: LabelVolume, **options: Any) -> Dataset:
    return read_object(to_bytes(encode_seg(volume_of(phantom(name)), labels, PROVENANCE, **options)))


@pytest.fixture(scope="module")
def axial() -> Dataset:
    return encoded("axial")


@pytest.mark.parametrize("name", EVERY)
def test_every_voxel_comes_back(name: str) -> None:
    decoded = decode_seg(encoded(name), phantom(name).geometry)
    assert np.array_equal(decoded.label_volume.labels, phantom(name).labels)
    assert not decoded.label_volume.overlays


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
@pytest.mark.parametrize("name", ["axial", "oblique", "tilted", "odd pixels", "enhanced CT"])
def test_every_voxel_of_the_other_kinds_comes_back(name: str, kind: str) -> None:
    decoded = decode_seg(encoded(name, profile=Profile(seg=kind)), phantom(name).geometry)
    assert np.array_equal(decoded.label_volume.labels, phantom(name).labels)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_with_gaps_and_above_255_keep_their_numbers(kind: str) -> None:
    source = phantom("axial")
    labels = source.labels.astype(np.uint16)
    labels[source.labels == 1] = 300
    structures = {300: load_anatomy()["Liver"], **{k: s for k, s in labels_of(source).structures.items() if k > 1}}
    label_volume = LabelVolume(labels, source.geometry, structures)
    decoded = decode_seg(encoded_labels("axial", label_volume, profile=Profile(seg=kind)), source.geometry)
    assert np.array_equal(decoded.label_volume.labels, labels)


def test_segments_are_numbered_from_one_without_gaps() -> None:
    labels = labels_of(phantom("axial"))
    without_first = replace(labels, labels=np.where(labels.labels == 1, 0, labels.labels).astype(np.uint8))
    dataset = encode_seg(volume_of(phantom("axial")), without_first, PROVENANCE)
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == list(range(1, 9))
    assert "Liver" not in {item.SegmentLabel for item in dataset.SegmentSequence}


def test_the_item_of_a_label_maps_segment_stands_where_viewers_that_count_items_look() -> None:
    numbers = [item.SegmentNumber for item in encoded("axial", profile=Profile(seg="LABELMAP")).SegmentSequence]
    assert numbers == [*range(1, len(numbers)), 0]


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


def doubtful(name: str) -> LabelVolume:
    """The phantom's labels with a network's doubt: a second best label for every third voxel."""
    labels = labels_of(phantom(name))
    random = np.random.default_rng(7)
    doubted = random.random(labels.labels.shape) < 1 / 3
    winner = np.where(doubted, random.integers(128, 255, doubted.shape), 255).astype(np.uint8)
    runner_up = random.integers(0, 10, doubted.shape).astype(np.uint8)
    runner_up[runner_up == labels.labels] = 0
    runner_up[:2] = 0  # slices where nothing but background is in question
    return replace(labels, certainty=Certainty(winner, runner_up))


@pytest.mark.parametrize("name", ["axial", "odd pixels"])
def test_fractional_frames_hold_the_probability_of_every_voxel(name: str) -> None:
    labels = doubtful(name)
    dataset, certainty = encoded_labels(name, labels, profile=Profile(seg="FRACTIONAL")), labels.certainty
    whole = slice(None), slice(None)
    expected = {
        (label, k): values
        for label in labels.structures
        for k, plane in enumerate(labels.labels)
        if (values := certainty.probability(plane, label, k, whole)).any()
    }
    origins = {tuple(np.round(origin, 3)): k for k, origin in enumerate(labels.geometry.origins)}
    found = {}
    for frame, pixels in zip(dataset.PerFrameFunctionalGroupsSequence, iter_pixels(dataset, raw=True), strict=True):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[number, origins[tuple(np.round(position, 3))]] = pixels
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    assert (dataset.SegmentationFractionalType, dataset.MaximumFractionalValue) == ("PROBABILITY", 255)
    assert dataset.SegmentsOverlap == "UNDEFINED"


def test_fractional_objects_are_at_least_one_half_where_the_label_is() -> None:
    decoded = decode_seg(
        encoded_labels("axial", doubtful("axial"), profile=Profile(seg="FRACTIONAL")), phantom("axial").geometry
    )
    assert np.array_equal(decoded.label_volume.labels, phantom("axial").labels)


def with_overlay(name: str, voxels: tuple[slice, ...]) -> LabelVolume:
    """The phantom's labels, and a box above them."""
    labels = labels_of(phantom(name))
    box = np.zeros_like(labels.labels)
    box[voxels] = 77
    overlay = LabelVolume(box, labels.geometry, {77: load_anatomy()["Heart"]})
    return replace(labels, overlays=(overlay,))


EVERYWHERE = (slice(2, 20), slice(3, 50), slice(4, 40))


@pytest.mark.parametrize("name", ["axial", "odd pixels"])
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_overlapping_structures_are_both_written_whole(name: str, kind: str) -> None:
    labels = with_overlay(name, EVERYWHERE)
    dataset = encoded_labels(name, labels, profile=Profile(seg=kind))
    decoded = decode_seg(dataset, labels.geometry).label_volume
    assert dataset.SegmentsOverlap == "YES"
    assert all(np.array_equal(decoded.mask(label), labels.mask(label)) for label in (*labels.structures, 77))


def test_a_label_map_of_overlapping_structures_is_refused_by_name() -> None:
    labels = with_overlay("axial", EVERYWHERE)
    with pytest.raises(InputRefused, match=r"Liver and Heart.* make a BINARY segmentation"):
        encoded_labels("axial", labels, profile=Profile(seg="LABELMAP"))
    without = Profile(structures=("Liver", "Spleen"), seg="LABELMAP")
    assert encoded_labels("axial", labels, profile=without).SegmentsOverlap == "NO"


def test_a_label_map_holds_every_layer() -> None:
    free = np.argwhere((phantom("axial").labels == 0).all(axis=0))[0]
    labels = with_overlay("axial", (slice(3, 9), slice(free[0], free[0] + 1), slice(free[1], free[1] + 1)))
    dataset = encoded_labels("axial", labels, profile=Profile(seg="LABELMAP"))
    decoded = decode_seg(dataset, labels.geometry).label_volume
    assert dataset.SegmentsOverlap == "NO"
    assert np.array_equal(decoded.labels, labels.labels + labels.overlays[0].labels)


def test_only_wanted_structures_are_written_under_the_sites_names() -> None:
    profile = Profile(structures=("Spleen", "Liver"), names={"Liver": "Hepar"})
    dataset = encoded("axial", profile=profile)
    wanted = [label for label, name in phantom("axial").names.items() if name in profile.structures]
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == [
        {"Liver": "Hepar"}.get(phantom("axial").names[label], phantom("axial").names[label]) for label in wanted
    ]
    assert [item.SegmentDescription for item in dataset.SegmentSequence] == [f"label {label}" for label in wanted]
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == list(range(1, len(wanted) + 1))


def test_a_profile_that_wants_nothing_of_what_is_there_is_refused_with_what_it_wants() -> None:
    with pytest.raises(InputRefused, match=r"no structure was found.*Patella"):
        encoded("axial", profile=Profile(structures=("Patella",)))


def test_remarks_follow_the_label_and_are_cut_to_what_the_attribute_holds() -> None:
    first, second, third = encoded("axial", remarks={1: "3 islands", 3: "x" * 2000}).SegmentSequence[:3]
    assert first.SegmentDescription == "label 1. 3 islands"
    assert second.SegmentDescription == "label 2"
    assert len(third.SegmentDescription) == 1024


def test_the_default_objects_uids_are_derived_as_ever() -> None:
    dataset = encoded("axial")
    assert dataset.SOPInstanceUID == derived_uid(PROVENANCE.case_id, "seg/instance")
    assert dataset.SeriesInstanceUID == derived_uid(PROVENANCE.case_id, "seg/series")


def test_objects_of_other_kinds_and_profiles_have_uids_of_their_own() -> None:
    profiles = (Profile(), Profile(structures=("Liver",)), Profile(names={"Liver": "Hepar"}))
    objects = [
        encoded("axial", profile=profile.model_copy(update={"seg": kind})) for kind in KINDS for profile in profiles
    ]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert len({item[keyword].value for item in objects}) == len(objects)
    assert len({item.DimensionOrganizationSequence[0].DimensionOrganizationUID for item in objects}) == len(objects)


@pytest.mark.parametrize("kind", KINDS)
def test_pixel_data_ends_on_an_even_byte_with_zeros(kind: str) -> None:
    source = phantom("odd pixels")
    labels = np.zeros_like(source.labels)
    labels[4:7] = 1  # 3 frames of 61 x 47 pixels: an odd number of bytes, and a last byte that is not full
    dataset = encoded_labels(
        "odd pixels", LabelVolume(labels, source.geometry, {1: load_anatomy()["Liver"]}), profile=Profile(seg=kind)
    )
    used = 3 * 61 * 47 * dataset.BitsAllocated
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, dtype=np.uint8), bitorder="little")
    assert len(bits) % 16 == 0
    assert 0 < len(bits) - used < 16
    assert bits[:used].any()
    assert not bits[used:].any()


@pytest.mark.parametrize("name", ["axial", "odd pixels"])
@pytest.mark.parametrize("kind", KINDS)
def test_pixel_data_is_read_from_any_place_as_often_as_one_likes(name: str, kind: str) -> None:
    pixels = encode_seg(volume_of(phantom(name)), labels_of(phantom(name)), PROVENANCE, Profile(seg=kind)).PixelData
    whole = pixels.read()
    assert pixels.read(1) == b""
    assert pixels.seek(0, io.SEEK_END) == len(whole)
    random = np.random.default_rng(3)
    for start, count in random.integers(0, len(whole), (50, 2)):
        pixels.seek(start)
        assert pixels.read(count) == whole[start : start + count]
    assert pixels.seek(-5, io.SEEK_END) == len(whole) - 5
    assert pixels.read() == whole[-5:]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_labels_give_the_same_bytes_of_every_kind(kind: str) -> None:
    source, profile = volume_of(phantom("tilted")), Profile(seg=kind)
    first, second = (to_bytes(encode_seg(source, doubtful("tilted"), PROVENANCE, profile)) for _ in range(2))
    assert first == second


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_dicom3tools_find_no_fault_in_overlaps_remarks_and_probabilities(kind: str, tmp_path: Path) -> None:
    labels = replace(doubtful("axial"), overlays=with_overlay("axial", EVERYWHERE).overlays)
    dataset = encode_seg(
        volume_of(phantom("axial")), labels, PROVENANCE, Profile(seg=kind), remarks={1: "volume 12.5 mL"}
    )
    write_object(tmp_path / "object.seg.dcm", dataset)
    assert dciodvfy(tmp_path / "object.seg.dcm") == []


def test_more_frames_than_one_value_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.results.dicom_seg.MOST_PIXEL_BYTES", 10_000)
    with pytest.raises(InputRefused, match="one DICOM value holds 4 GiB"):
        encode_seg(volume_of(phantom("axial")), labels_of(phantom("axial")), PROVENANCE)


def test_a_single_slice_is_as_thick_as_its_source_says() -> None:
    source = build(PhantomSpec(slices=1, slice_spacing=4.0))
    dataset = encode_seg(volume_of(source), labels_of(source), PROVENANCE)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (float(measures.SliceThickness), float(measures.SpacingBetweenSlices)) == (4.0, 4.0)
    assert verify_seg(to_bytes(dataset), labels_of(source), volume_of(source)).least_dice == 1.0
