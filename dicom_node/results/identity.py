"""Who made a result and of whom it is: identifiers and attributes that every result object shares."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.errors import BytesLengthException
from pydicom.uid import UID

from dicom_node import __version__, uids
from dicom_node.errors import InputRefused
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile
from dicom_node.uids import MANUFACTURER

RESEARCH_NOTE = "Automatic, not approved, for research use only"
SERIES_NUMBER_BASE = {"SEG": 9_000_000, "RTSTRUCT": 9_500_000, "SC": 10_000_000}
"""Added to the source's SeriesNumber, so that results sort behind every acquired series and tell of their source."""

EMPTY_UNLESS_KNOWN = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Type 2 of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, though perhaps empty."""

COPIED = (
    *EMPTY_UNLESS_KNOWN,
    "SpecificCharacterSet",
    "StudyInstanceUID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthTime",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "ProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PregnancyStatus",
    "LastMenstrualDate",
    "SmokingStatus",
    "AdditionalPatientHistory",
    "Occupation",
    "MedicalAlerts",
    "Allergies",
    "PatientState",
    "PatientSexNeutered",
    "ReasonForVisit",
    "ReasonForVisitCodeSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "ConsultingPhysicianName",
    "ReferencedStudySequence",
    "ClinicalTrialCoordinatingCenterName",
    "ClinicalTrialTimePointDescription",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "TimezoneOffsetFromUTC",
)
"""What a result takes over from its source as it stands (Patient, Study, Patient Study, Clinical Trial modules)."""


@dataclass(frozen=True)
class Provenance:
    """What made a result.

    Attributes:
        case_id: Identity of the case; every generated UID derives from it.
        card: Name of the card, or of another algorithm.
        version: Version of card and weights.
        weights_sha256: SHA-256 of the weights, hexadecimal; empty where there are none.
        created: Date and time of the case, in the time zone of the source's own dates. Part of the case, so that
            doing it twice gives the same bytes.
        algorithm_type: "AUTOMATIC", "SEMIAUTOMATIC" or "MANUAL" (PS3.3 C.8.20.2, C.8.8.5).
    """

    case_id: str
    card: str
    version: str
    weights_sha256: str
    created: datetime
    algorithm_type: str = "AUTOMATIC"

    @property
    def algorithm(self) -> str:
        """Name and version for people: at most 64 characters (LO)."""
        return f"{self.card} {self.version}"[:64]

    @property
    def serial_number(self) -> str:
        """DeviceSerialNumber: the beginning of the weights' hash, which tells two models of one name apart."""
        return self.weights_sha256[:16] or "none"

    @property
    def software_versions(self) -> list[str]:
        """SoftwareVersions: the node, then card and version."""
        return [f"{MANUFACTURER} {__version__}", self.algorithm]


def derived_uid(case_id: str, role: str) -> UID:
    """The UID of one role within a case, as pydicom's type (:func:`dicom_node.uids.derived_uid`)."""
    return UID(uids.derived_uid(case_id, role))


def derived_role(kind: str, profile_identity: str, name: str) -> str:
    """The role of a UID within one kind of result: objects that differ by their profile have UIDs of their own.

    Args:
        kind: ``seg``, ``rtstruct`` ...
        profile_identity: Of the destination's profile; empty for the default.
        name: ``instance``, ``series`` ...
    """
    return "/".join(part for part in (kind, profile_identity, name) if part)


def tracking_uid(header: Dataset, structure_name: str) -> UID:
    """TrackingUID of a structure (PS3.3 C.8.20.2): one for each patient and structure, the same at every time point.

    The patient is known by PatientID and its issuer; where the source has no PatientID, structures can be followed
    within their study only. It is a hash without a secret: who knows a PatientID can tell that a UID is of it, so
    de-identification has to replace it (PS3.15 E.1 does).

    Args:
        header: Of the source.
        structure_name: Name of anatomy.toml, whatever a destination calls it.
    """
    patient, issuer = (str(header.get(keyword) or "").strip() for keyword in ("PatientID", "IssuerOfPatientID"))
    owner = f"patient/{issuer}\\{patient}" if patient else f"study/{header.StudyInstanceUID}"
    return derived_uid(owner, f"tracking/{structure_name}")


def series_number(volume: Volume, modality: str) -> int:
    """SeriesNumber of a result: a high number that ends in the source's own."""
    return SERIES_NUMBER_BASE[modality] + min(max(_source_number(volume.header) or 0, 0), 499_999)


def series_description(volume: Volume, provenance: Provenance, modality: str) -> str:
    """SeriesDescription of a result: says that it is automatic, for research, and of which series (LO, 64)."""
    number = _source_number(volume.header)
    of_series = "" if number is None else f" of series {number}"
    name = {"AUTOMATIC": "AUTO", "SEMIAUTOMATIC": "SEMIAUTO"}.get(provenance.algorithm_type, provenance.algorithm_type)
    tail = f"{of_series}, research only"
    return f"{name} {modality} {provenance.algorithm}"[: 64 - len(tail)] + tail


def frame_of_reference(volume: Volume) -> str:
    """The source's own FrameOfReferenceUID.

    Raises:
        InputRefused: The source has none. SEG and RTSTRUCT place labels in a frame of reference (Type 1 in both); one
            that the node invented would claim a relation to other series that nobody established.
    """
    if not volume.frame_of_reference_uid:
        raise InputRefused(
            "the series has no FrameOfReferenceUID, so no SEG or RTSTRUCT can say where its labels lie; expected the "
            "one the scanner gives every CT and MR series; send the original series again",
            SeriesInstanceUID=volume.series_instance_uid,
        )
    return volume.frame_of_reference_uid


def nothing_found(volume: Volume, profile: Profile) -> InputRefused:
    """The refusal of a result in which no structure that the profile wants has a voxel."""
    wanted = f", and the profile's structures ({', '.join(profile.structures)})" if profile.structures else ""
    return InputRefused(
        "no structure was found in the series, so there is nothing to write; check that the series shows the anatomy "
        f"that it was segmented for{wanted}",
        SeriesInstanceUID=volume.series_instance_uid,
    )


def add_source_identity(dataset: Dataset, header: Dataset) -> None:
    """Copy patient and study attributes as they stand; Type 2 ones that the source lacks become empty.

    Values that break a rule of their VR (a StudyID of 20 characters) are copied all the same: a result that
    disagrees with its study would be filed apart from it.
    """
    for keyword in COPIED:
        if not copy_element(header, dataset, keyword) and keyword in EMPTY_UNLESS_KNOWN:
            setattr(dataset, keyword, "")


def copy_element(source: Dataset, target: Dataset, keyword: str) -> bool:
    """Copy an element as it stands; whether there was one.

    A number that cannot be read counts as absent, and so does an empty character set, which is no value for a result.
    """
    try:
        if keyword not in source or (keyword == "SpecificCharacterSet" and not source[keyword].value):
            return False
        target[keyword] = copy.deepcopy(source[keyword])
    except (ValueError, TypeError, OverflowError, BytesLengthException):
        return False
    return True


def add_equipment(dataset: Dataset, volume: Volume, provenance: Provenance) -> None:
    """General Equipment module and ContributingEquipmentSequence: the scanner, then this node."""
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = f"{MANUFACTURER} {provenance.card}"[:64]
    dataset.DeviceSerialNumber = provenance.serial_number
    dataset.SoftwareVersions = provenance.software_versions
    dataset.ContributingEquipmentSequence = [
        *_acquisition_equipment(volume.header),
        _processing_equipment(provenance),
    ]


def add_times(dataset: Dataset, provenance: Provenance, *prefixes: str) -> None:
    """Dates and times of creation: always those of the case.

    Args:
        dataset: The result.
        provenance: Says when the case was made.
        prefixes: ``InstanceCreation``, ``Series``, ``Content``, ``StructureSet`` ...
    """
    for prefix in prefixes:
        setattr(dataset, f"{prefix}Date", provenance.created.strftime("%Y%m%d"))
        setattr(dataset, f"{prefix}Time", provenance.created.strftime("%H%M%S"))


def _source_number(header: Dataset) -> int | None:
    try:
        number = header.get("SeriesNumber")
        return None if number in (None, "") else int(number)
    except (ValueError, TypeError, OverflowError):
        return None


def _acquisition_equipment(header: Dataset) -> list[Dataset]:
    if not header.get("Manufacturer"):
        return []
    item = Dataset()
    for keyword in ("Manufacturer", "ManufacturerModelName", "StationName", "DeviceSerialNumber", "SoftwareVersions"):
        if header.get(keyword):
            copy_element(header, item, keyword)
    item.PurposeOfReferenceCodeSequence = [_purpose("109101", "Acquisition Equipment")]
    return [item]


def _processing_equipment(provenance: Provenance) -> Dataset:
    item = Dataset()
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = f"{MANUFACTURER} {provenance.card}"[:64]
    item.DeviceSerialNumber = provenance.serial_number
    item.SoftwareVersions = provenance.software_versions
    item.ContributionDateTime = provenance.created.strftime("%Y%m%d%H%M%S")
    weights = f"; weights SHA-256 {provenance.weights_sha256}" if provenance.weights_sha256 else ""
    item.ContributionDescription = f"Segmentation by {provenance.algorithm}{weights}. {RESEARCH_NOTE}."
    item.PurposeOfReferenceCodeSequence = [_purpose("109102", "Processing Equipment")]
    return item


def _purpose(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = meaning
    return code
