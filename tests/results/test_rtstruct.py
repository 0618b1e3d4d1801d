from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import InputRefused
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.profiles import Profile
from dicom_node.results.contour_items import decimal_text
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import read_object, to_bytes
from dicom_node.results.rtstruct import encode_rtstruct, roi_names
from dicom_node.results.rtstruct_decoding import decode_rtstruct
from tests.results.sources import EVERY, IRREGULAR, PROVENANCE, labels_of, phantom, volume_of

ANY = Profile(irregular_contours=True)

TYPE_1 = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "StructureSetLabel",
    "ApprovalStatus",
    "FrameOfReferenceUID",
]
TYPE_2 = [
    "OperatorsName",
    "Manufacturer",
    "SeriesNumber",
    "StructureSetDate",
    "StructureSetTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
]


def encoded(name: str) -> Dataset:
    dataset = encode_rtstruct(volume_of(phantom(name)), labels_of(phantom(name)), PROVENANCE, ANY)
    return read_object(to_bytes(dataset))


def contours_of(dataset: Dataset) -> list[Dataset]:
    return [contour for roi in dataset.ROIContourSequence for contour in roi.ContourSequence]


@pytest.fixture(scope="module")
def axial() -> Dataset:
    return encoded("axial")


@pytest.mark.parametrize("name", EVERY)
def test_every_voxel_comes_back(name: str) -> None:
    decoded = decode_rtstruct(encoded(name), phantom(name).geometry)
    assert np.array_equal(decoded.label_volume.labels, phantom(name).labels)
    assert decoded.label_volume.overlays == ()


@pytest.mark.parametrize("name", EVERY)
def test_every_point_lies_on_the_plane_of_the_slice_it_refers_to(name: str) -> None:
    volume = volume_of(phantom(name))
    geometry = volume.geometry
    places = {(source.sop_instance_uid, source.frame_number): k for k, source in enumerate(volume.sources)}
    for contour in contours_of(encoded(name)):
        (image,) = contour.ContourImageSequence
        k = places[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")]
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        assert np.abs(points @ geometry.normal - geometry.distances[k]).max() < 0.01


@pytest.mark.parametrize("name", ["axial", "oblique", "sagittal"])
def test_contours_obey_the_rules_of_planning_systems(name: str) -> None:
    for contour in contours_of(encoded(name)):
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        assert contour.NumberOfContourPoints == len(points) >= 3
        assert not np.array_equal(points[0], points[-1])


def test_decimal_strings_have_at_most_sixteen_characters() -> None:
    points = np.array([[-1234.56789, 1 / 3, -1e-9], [99999.9995, -0.0004, 250.5]])
    assert decimal_text(points) == ["-1234.568", "0.333", "0.000", "100000.000", "0.000", "250.500"]


def test_coordinates_are_exact_to_a_thousandth_of_a_millimetre() -> None:
    points = np.random.default_rng(1).uniform(-2000, 2000, (500, 3))
    texts = decimal_text(points)
    assert max(map(len, texts)) <= 16
    assert np.abs(np.array(texts).astype(float) - points.ravel()).max() < 0.001


def test_every_attribute_that_the_standard_requires_has_its_place(axial: Dataset) -> None:
    assert [keyword for keyword in TYPE_1 if not axial.get(keyword)] == []
    assert [keyword for keyword in TYPE_2 if keyword not in axial] == []


def test_the_set_is_not_approved_and_for_research(axial: Dataset) -> None:
    assert axial.ApprovalStatus == "UNAPPROVED"
    assert "research use only" in axial.StructureSetDescription
    assert "research only" in axial.SeriesDescription


def test_the_label_fits_sixteen_characters() -> None:
    arguments = volume_of(phantom("axial")), labels_of(phantom("axial"))
    dataset = encode_rtstruct(*arguments, replace(PROVENANCE, card="a very long name of a card"))
    assert len(dataset.StructureSetLabel) <= 16


def test_roi_contour_and_observation_belong_together_one_by_one(axial: Dataset) -> None:
    numbers = [roi.ROINumber for roi in axial.StructureSetROISequence]
    assert numbers == list(range(1, len(phantom("axial").names) + 1))
    assert [item.ReferencedROINumber for item in axial.ROIContourSequence] == numbers
    assert [item.ReferencedROINumber for item in axial.RTROIObservationsSequence] == numbers
    assert len({item.ObservationNumber for item in axial.RTROIObservationsSequence}) == len(numbers)


def test_rois_say_what_made_them(axial: Dataset) -> None:
    for roi in axial.StructureSetROISequence:
        assert roi.ROIGenerationAlgorithm == "AUTOMATIC"
        assert roi.ROIGenerationDescription == "torso 1.2"
        assert roi.ReferencedFrameOfReferenceUID == axial.FrameOfReferenceUID


def test_observations_are_coded(axial: Dataset) -> None:
    kidney = axial.RTROIObservationsSequence[1]
    (kind,) = kidney.RTROIIdentificationCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("64033007", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Right"
    assert kidney.RTROIInterpretedType == "ORGAN"
    assert kidney.ROIInterpreter == ""


def test_a_body_contour_is_external() -> None:
    source = phantom("axial")
    structures = {**labels_of(source).structures, 1: load_anatomy()["External"]}
    dataset = encode_rtstruct(volume_of(source), LabelVolume(source.labels, source.geometry, structures), PROVENANCE)
    assert dataset.RTROIObservationsSequence[0].RTROIInterpretedType == "EXTERNAL"


@pytest.mark.parametrize("name", ["axial", "enhanced CT"])
def test_the_whole_way_to_the_source_images_is_laid_out(name: str) -> None:
    volume = volume_of(phantom(name))
    (frame,) = encoded(name).ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    instances = list(dict.fromkeys(source.sop_instance_uid for source in volume.sources))
    assert frame.FrameOfReferenceUID == volume.frame_of_reference_uid
    assert study.ReferencedSOPInstanceUID == volume.study_instance_uid
    assert series.SeriesInstanceUID == volume.series_instance_uid
    assert [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence] == instances


def test_an_empty_structure_is_left_out() -> None:
    labels = labels_of(phantom("axial"))
    emptied = replace(labels, labels=np.where(labels.labels == 3, 0, labels.labels).astype(np.uint8))
    dataset = encode_rtstruct(volume_of(phantom("axial")), emptied, PROVENANCE)
    assert phantom("axial").names[3] not in [roi.ROIName for roi in dataset.StructureSetROISequence]
    assert all(len(roi.ContourSequence) > 0 for roi in dataset.ROIContourSequence)


def test_rois_are_numbered_as_segments_are_whatever_the_labels() -> None:
    source = phantom("axial")
    labels = source.labels.astype(np.uint16)
    labels[source.labels == 2] = 0
    labels[source.labels == 1] = 300
    structures = {300: load_anatomy()["Liver"], **{k: s for k, s in labels_of(source).structures.items() if k > 1}}
    label_volume = LabelVolume(labels, source.geometry, structures)
    rtstruct = encode_rtstruct(volume_of(source), label_volume, PROVENANCE)
    segments = encode_seg(volume_of(source), label_volume, PROVENANCE).SegmentSequence
    rois = rtstruct.StructureSetROISequence
    assert [roi.ROINumber for roi in rois] == [item.SegmentNumber for item in segments]
    assert [roi.ROIDescription.split(". ")[0] for roi in rois] == [item.SegmentDescription for item in segments]
    decoded = decode_rtstruct(rtstruct, source.geometry)
    assert np.array_equal(decoded.label_volume.labels, labels)


@pytest.mark.parametrize(("name", "reason"), [("tilted", r"tilted by 15\.0 degrees"), ("uneven", "2.00 to 5.00 mm")])
def test_irregular_series_are_refused_unless_allowed(name: str, reason: str) -> None:
    assert name in IRREGULAR
    with pytest.raises(InputRefused, match=reason):
        encode_rtstruct(volume_of(phantom(name)), labels_of(phantom(name)), PROVENANCE)


def test_names_that_differ_in_case_only_are_numbered() -> None:
    liver = load_anatomy()["Liver"]
    structures = {1: liver, 2: replace(liver, name="LIVER"), 5: replace(liver, name="liver")}
    assert roi_names(structures) == {1: "Liver", 2: "LIVER_2", 5: "liver_3"}


def test_names_are_cut_and_stay_unique() -> None:
    liver = load_anatomy()["Liver"]
    structures = {n: replace(liver, name=f"A_structure_with_a_long_name_{n}") for n in (1, 2)}
    names = roi_names(structures)
    assert names == {1: "A_structure_with", 2: "A_structure_wi_2"}
    assert all(len(name) <= 16 for name in names.values())


def test_destinations_that_take_long_names_get_them() -> None:
    anatomy = load_anatomy()
    long = replace(anatomy["Liver"], name="A_structure_with_a_long_name")
    names = roi_names({1: long, 2: anatomy["Pelvis_L"]}, Profile(name_length=64))
    assert names == {1: "A_structure_with_a_long_name", 2: "Bone_Pelvic_L"}


def test_a_sites_own_names_come_first() -> None:
    anatomy = load_anatomy()
    profile = Profile(names={"Pelvis_L": "Hip left", "Liver": "Hepar"})
    assert roi_names({4: anatomy["Pelvis_L"], 5: anatomy["Liver"], 6: anatomy["Spleen"]}, profile) == {
        4: "Hip left", 5: "Hepar", 6: "Spleen",
    }  # fmt: skip


def test_contours_longer_than_64_kilobytes_are_written_and_read() -> None:
    source = phantom("axial")
    big = np.zeros((3, 1500, 8), dtype=np.uint8)
    big[1, ::2, :] = 1
    big[1, :, 0] = 1
    geometry = replace(source.geometry, origins=source.geometry.origins[:3].copy(), rows=1500, columns=8)
    volume = replace(volume_of(source), geometry=geometry, sources=volume_of(source).sources[:3])
    labels = LabelVolume(big, geometry, {1: load_anatomy()["Liver"]})
    dataset = read_object(to_bytes(encode_rtstruct(volume, labels, PROVENANCE)))
    assert dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert len(dataset.ROIContourSequence[0].ContourSequence[0].get_item("ContourData").value) > 65536
    assert np.array_equal(decode_rtstruct(dataset, geometry).label_volume.labels, big)


def test_structures_and_sides_are_read_back(axial: Dataset) -> None:
    decoded = decode_rtstruct(axial, phantom("axial").geometry)
    assert decoded.label_volume.structures == labels_of(phantom("axial")).structures
    assert (decoded.lateralities[1], decoded.lateralities[2], decoded.lateralities[5]) == (None, "24028007", "7771000")
