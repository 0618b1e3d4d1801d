from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID

from dicom_node.errors import InputRefused
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.identity import (
    add_equipment,
    add_source_identity,
    derived_role,
    derived_uid,
    series_description,
    series_number,
    tracking_uid,
)
from dicom_node.results.object_file import read_object, to_bytes
from dicom_node.results.rtstruct import encode_rtstruct
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of, with_header

ENCODERS = pytest.mark.parametrize("encode", [encode_seg, encode_rtstruct])


def encoded(encode: Any, volume: Any) -> Dataset:
    return read_object(to_bytes(encode(volume, labels_of(phantom("axial")), PROVENANCE)))


def test_a_case_gives_the_same_uid_each_time() -> None:
    assert derived_uid("case", "seg/instance") == derived_uid("case", "seg/instance")


def test_every_case_and_role_has_a_uid_of_its_own() -> None:
    uids = {derived_uid(case, role) for case in ("a", "b") for role in ("seg/series", "rtstruct/series", "x")}
    assert len(uids) == 6


def test_derived_uids_are_valid() -> None:
    uid = derived_uid("case", "role")
    assert uid.startswith("2.25.")
    assert UID(uid).is_valid


def test_roles_of_the_default_profile_are_the_plain_ones() -> None:
    assert derived_role("seg", "", "instance") == "seg/instance"


def test_roles_differ_by_kind_profile_and_name() -> None:
    roles = {
        derived_role(kind, profile, name)
        for kind in ("seg", "seg/LABELMAP", "rtstruct")
        for profile in ("", "0123456789abcdef")
        for name in ("series", "instance")
    }
    assert len(roles) == 12


def source_header(**values: str) -> Dataset:
    header = Dataset()
    header.update({"StudyInstanceUID": "1.2.3", "PatientID": "4711", "IssuerOfPatientID": "Ward"} | values)
    return header


def test_a_structure_is_tracked_through_the_studies_of_a_patient() -> None:
    later = source_header(StudyInstanceUID="1.2.4")
    assert tracking_uid(source_header(), "Liver") == tracking_uid(later, "Liver")
    assert tracking_uid(source_header(PatientID="4711 "), "Liver") == tracking_uid(later, "Liver")
    assert tracking_uid(source_header(), "Liver") != tracking_uid(later, "Spleen")


def test_patients_of_other_numbers_or_issuers_are_tracked_apart() -> None:
    patients = [source_header(), source_header(PatientID="4712"), source_header(IssuerOfPatientID="Other")]
    assert len({tracking_uid(header, "Liver") for header in patients}) == 3


@pytest.mark.parametrize("number", ["", "  ", None])
def test_without_a_patient_id_structures_are_tracked_within_their_study(number: str | None) -> None:
    first, again, other = (source_header(PatientID=number, StudyInstanceUID=uid) for uid in ("1.2.3", "1.2.3", "1.2.4"))
    assert tracking_uid(first, "Liver") == tracking_uid(again, "Liver")
    assert tracking_uid(first, "Liver") != tracking_uid(other, "Liver")


def test_segments_of_two_time_points_have_the_same_tracking_uids() -> None:
    volume, labels = volume_of(phantom("axial")), labels_of(phantom("axial"))
    later = with_header(volume, StudyInstanceUID="1.2.3.4", StudyDate="20270102")
    first = encode_seg(volume, labels, PROVENANCE)
    second = encode_seg(later, labels, replace(PROVENANCE, case_id="of the next year"))
    other = encode_seg(with_header(volume, PatientID="another"), labels, PROVENANCE)
    tracked, followed, apart = (
        {item.TrackingID: item.TrackingUID for item in dataset.SegmentSequence} for dataset in (first, second, other)
    )
    assert tracked == followed
    assert len(set(tracked.values())) == len(tracked)
    assert not set(tracked.values()) & set(apart.values())


@pytest.mark.parametrize(("source", "expected"), [(7, 9_000_007), (None, 9_000_000), (10**9, 9_499_999)])
def test_series_numbers_end_in_the_number_of_the_source(source: int | None, expected: int) -> None:
    assert series_number(with_header(volume_of(phantom("axial")), SeriesNumber=source), "SEG") == expected


def test_series_descriptions_say_automatic_research_and_the_source() -> None:
    text = series_description(volume_of(phantom("axial")), PROVENANCE, "SEG")
    assert text == "AUTO SEG torso 1.2 of series 1, research only"


def test_long_algorithm_names_keep_the_research_note_within_64_characters() -> None:
    text = series_description(volume_of(phantom("axial")), replace(PROVENANCE, card="c" * 90), "RTSTRUCT")
    assert len(text) == 64
    assert text.endswith("research only")


def test_attributes_that_the_source_lacks_are_there_and_empty() -> None:
    result = Dataset()
    add_source_identity(result, Dataset())
    assert result.PatientName == ""
    assert result.StudyID == ""


@ENCODERS
def test_values_that_break_their_vr_are_copied_as_they_stand(encode: Any) -> None:
    volume = with_header(volume_of(phantom("axial")))
    volume.header["StudyID"] = DataElement("StudyID", "SH", "twenty-one characters", validation_mode=0)
    with warnings.catch_warnings(action="ignore"):  # pydicom's, when the value is read
        assert encoded(encode, volume).StudyID == "twenty-one characters"


@ENCODERS
def test_an_empty_character_set_is_left_out(encode: Any) -> None:
    volume = with_header(volume_of(phantom("axial")), SpecificCharacterSet="")
    assert "SpecificCharacterSet" not in encoded(encode, volume)


@ENCODERS
def test_a_number_that_cannot_be_read_is_left_out(encode: Any) -> None:
    volume = with_header(volume_of(phantom("axial")))
    tag = Tag("PregnancyStatus")
    volume.header[tag] = RawDataElement(tag, "US", 3, b"abc", 0, False, True)
    assert "PregnancyStatus" not in encoded(encode, volume)


@ENCODERS
def test_a_series_number_that_is_no_number_counts_as_none(encode: Any) -> None:
    volume = with_header(volume_of(phantom("axial")))
    tag = Tag("SeriesNumber")
    volume.header[tag] = RawDataElement(tag, "IS", 4, b"five", 0, False, True)
    with warnings.catch_warnings(action="ignore"):  # pydicom's, when the value is read
        result = encoded(encode, volume)
    assert result.SeriesNumber in (9_000_000, 9_500_000)
    assert "of series" not in result.SeriesDescription


def test_equipment_names_the_scanner_and_this_node() -> None:
    result = Dataset()
    add_equipment(result, volume_of(phantom("axial")), PROVENANCE)
    scanner, node = result.ContributingEquipmentSequence
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Acquisition Equipment"
    assert "torso 1.2" in node.ContributionDescription
    assert PROVENANCE.weights_sha256 in node.ContributionDescription
    assert "research use only" in node.ContributionDescription


@ENCODERS
def test_patient_and_study_are_the_sources(encode: Any) -> None:
    volume = volume_of(phantom("axial"))
    result = encoded(encode, volume)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "StudyID"):
        assert result[keyword].value == volume.header[keyword].value


@ENCODERS
def test_the_result_is_a_series_of_its_own(encode: Any) -> None:
    volume = volume_of(phantom("axial"))
    assert encoded(encode, volume).SeriesInstanceUID != volume.series_instance_uid


@ENCODERS
def test_names_in_other_alphabets_survive(encode: Any) -> None:
    volume = with_header(
        volume_of(phantom("axial")), SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Zoë=山田^太郎"
    )
    assert encoded(encode, volume).PatientName == "Müller^Zoë=山田^太郎"


@ENCODERS
def test_a_series_without_a_frame_of_reference_is_refused(encode: Any) -> None:
    volume = replace(volume_of(phantom("axial")), frame_of_reference_uid=None)
    with pytest.raises(InputRefused, match="FrameOfReferenceUID"):
        encode(volume, labels_of(phantom("axial")), PROVENANCE)


@ENCODERS
def test_a_label_volume_without_voxels_is_refused(encode: Any) -> None:
    labels = labels_of(phantom("axial"))
    with pytest.raises(InputRefused, match="no structure was found"):
        encode(volume_of(phantom("axial")), replace(labels, labels=labels.labels * 0), PROVENANCE)


@ENCODERS
def test_a_source_that_lacks_every_optional_attribute_is_encoded(encode: Any) -> None:
    volume = volume_of(phantom("axial"))
    header = Dataset()
    header.StudyInstanceUID, header.SeriesInstanceUID = volume.study_instance_uid, volume.series_instance_uid
    result = encoded(encode, replace(volume, header=header))
    assert result.PatientID == ""
    assert result.PositionReferenceIndicator == ""


@ENCODERS
def test_the_same_case_gives_the_same_bytes(encode: Any) -> None:
    first, second = (
        to_bytes(encode(volume_of(phantom("axial")), labels_of(phantom("axial")), PROVENANCE)) for _ in range(2)
    )
    assert first == second


@ENCODERS
def test_another_case_gives_other_uids(encode: Any) -> None:
    arguments = volume_of(phantom("axial")), labels_of(phantom("axial"))
    first = encode(*arguments, PROVENANCE)
    second = encode(*arguments, replace(PROVENANCE, case_id="another"))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
