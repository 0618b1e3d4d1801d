"""What the node creates, attribute by attribute (PS3.2 A.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_node.conformance.contexts import produced_classes
from dicom_node.conformance.document import Block, Section, Table
from dicom_node.deliver.association import sop_class_name
from dicom_node.imaging.instances import HEADER_KEYWORDS, PRIVATE_HEADER_TAGS
from dicom_node.results.identity import COPIED, EMPTY_UNLESS_KNOWN, RESEARCH_NOTE, SERIES_NUMBER_BASE
from dicom_node.settings import Settings
from dicom_node.uids import LABEL_MAP_SEGMENTATION, MANUFACTURER, RT_STRUCTURE_SET, SECONDARY_CAPTURE, SEGMENTATION

Presence = Literal["ALWAYS", "VNAP", "ANAP"]
"""Of PS3.2 A.9.1: always with a value; always, perhaps without a value; not always present."""
Source = Literal["AUTO", "SRC", "FIXED"]
"""Generated; of the source series; always the same."""


@dataclass(frozen=True)
class AttributeClaim:
    """One attribute of the root of a created object.

    Attributes:
        keyword: Of PS3.6.
        presence: Whether it is there.
        source: Where its value comes from.
        value: What it says.
    """

    keyword: str
    presence: Presence
    source: Source
    value: str = ""


@dataclass(frozen=True)
class ObjectClaim:
    """A kind of object that is created.

    Attributes:
        sop_class: Its UID.
        attributes: Of its root; none but these are there.
    """

    sop_class: str
    attributes: tuple[AttributeClaim, ...]


def created_objects(settings: Settings) -> tuple[ObjectClaim, ...]:
    """What the profiles of these settings ask for."""
    return tuple(ObjectClaim(uid, _ATTRIBUTES[uid]) for uid in produced_classes(settings))


def annexes(objects: tuple[ObjectClaim, ...]) -> Section:
    """Created objects, private attributes, terminology."""
    return Section(
        "Annexes",
        (),
        (
            Section(
                "Created SOP instances",
                (
                    (
                        "ALWAYS: present with a value. VNAP: present, perhaps without a value. ANAP: not always "
                        "present. AUTO: made by the node. SRC: copied from the source series as it stands. "
                        "FIXED: always the same."
                    ),
                    (
                        "Every instance is decoded again from its bytes and compared with the labels before it leaves. "
                        "Doing a case twice gives the same instances under the same UIDs."
                    ),
                ),
                tuple(Section(sop_class_name(item.sop_class), (_table(item),)) for item in objects),
            ),
            Section("Usage of attributes of received instances", _received()),
            Section("Data dictionary of private attributes", ("No private attributes are created.",)),
            Section(
                "Coded terminology",
                (
                    (
                        "Structures have codes of SNOMED CT (SCT), as anatomy.toml lists them: category of CID 7150, "
                        "type of CID 7151 with laterality of CID 244. Purposes and algorithms have codes of DCM."
                    ),
                ),
            ),
            Section("Grayscale image consistency", ("Not supported: nothing is displayed.",)),
            Section("Extended, specialised or private SOP classes and transfer syntaxes", ("None.",)),
        ),
    )


def _received() -> tuple[Block, ...]:
    rows = tuple((keyword, _tag(keyword), dictionary_VR(keyword)) for keyword in HEADER_KEYWORDS)
    private = ", ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in PRIVATE_HEADER_TAGS)
    return (
        (
            "These are read beside the pixel data to prove a series whole, to place it in the patient and to tell what "
            "it is. Without ImagePositionPatient, ImageOrientationPatient, PixelSpacing or FrameOfReferenceUID (in "
            "multi-frame objects: of each frame) no result is made. Rules may ask for any attribute."
        ),
        Table(("attribute", "tag", "VR"), rows),
        f"Private attributes that are read, with their private creators: {private} (b-values of diffusion images).",
    )


def _table(claim: ObjectClaim) -> Table:
    return Table(
        ("attribute", "tag", "VR", "presence", "source", "value"),
        tuple(
            (item.keyword, _tag(item.keyword), dictionary_VR(item.keyword), item.presence, item.source, item.value)
            for item in sorted(claim.attributes, key=lambda item: tag_for_keyword(item.keyword) or 0)
        ),
    )


def _tag(keyword: str) -> str:
    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _always(**values: str) -> tuple[AttributeClaim, ...]:
    return tuple(AttributeClaim(keyword, "ALWAYS", "AUTO", value) for keyword, value in values.items())


def _fixed(**values: str) -> tuple[AttributeClaim, ...]:
    return tuple(AttributeClaim(keyword, "ALWAYS", "FIXED", value) for keyword, value in values.items())


def _copied(presence: Presence, *keywords: str) -> tuple[AttributeClaim, ...]:
    return tuple(AttributeClaim(keyword, presence, "SRC") for keyword in keywords)


_COMMON: Final = (
    *_copied("VNAP", *EMPTY_UNLESS_KNOWN),
    *_copied("ALWAYS", "StudyInstanceUID"),
    *_copied("ANAP", *(keyword for keyword in COPIED if keyword not in {*EMPTY_UNLESS_KNOWN, "StudyInstanceUID"})),
    *_always(
        SOPInstanceUID="derives from the case and the profile",
        SeriesInstanceUID="derives from the case and the profile",
        SeriesDescription="AUTO, kind, card and version, number of the source series, research only",
        SeriesDate="of the case",
        SeriesTime="of the case",
        InstanceCreationDate="of the case",
        InstanceCreationTime="of the case",
        ManufacturerModelName=f"{MANUFACTURER} and the card",
        DeviceSerialNumber="beginning of the SHA-256 of the weights, or none",
        SoftwareVersions="version of the node, then card and version",
        ContributingEquipmentSequence="the scanner, where it is known; this node, with card, weights and the words: "
        + RESEARCH_NOTE,
    ),
    *_fixed(Manufacturer=MANUFACTURER, InstanceNumber="1"),
)
_PLACED: Final = (
    AttributeClaim("FrameOfReferenceUID", "ALWAYS", "SRC"),
    AttributeClaim("PositionReferenceIndicator", "VNAP", "SRC"),
)
_SEGMENTED: Final = (
    *_COMMON,
    *_PLACED,
    *_copied("ANAP", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    *_always(
        SeriesNumber=f"{SERIES_NUMBER_BASE['SEG']} and the source's",
        ContentDate="of the case",
        ContentTime="of the case",
        ContentLabel="of the object",
        ContentDescription="that it is automatic, not approved, for research",
        ReferencedSeriesSequence="the source series with every instance",
        SourceImageSequence="every source instance",
        DimensionOrganizationSequence="one organisation",
        DimensionIndexSequence="segment and position; position alone for label maps",
        NumberOfFrames="frames that hold a structure",
        Rows="of the source",
        Columns="of the source",
        BitsAllocated="1, 8 or 16",
        BitsStored="as BitsAllocated",
        HighBit="BitsStored - 1",
        LossyImageCompression="00, or 01 where the source was compressed with loss",
        SegmentationType="BINARY, LABELMAP or FRACTIONAL, by the profile",
        SegmentSequence="one item a structure: codes, colour, algorithm and version, tracking identifiers",
        SegmentsOverlap="YES, NO or UNDEFINED",
        SharedFunctionalGroupsSequence="orientation, pixel measures and what all frames share",
        PerFrameFunctionalGroupsSequence="position, segment and source image of each frame",
        PixelData="native, not encapsulated",
    ),
    *_fixed(
        SOPClassUID="of the object",
        Modality="SEG",
        ImageType="DERIVED\\PRIMARY",
        SamplesPerPixel="1",
        PhotometricInterpretation="MONOCHROME2",
        PixelRepresentation="0",
        PresentationLUTShape="IDENTITY",
    ),
    AttributeClaim("ContentCreatorName", "VNAP", "FIXED", "empty"),
)
_ATTRIBUTES: Final[dict[str, tuple[AttributeClaim, ...]]] = {
    SEGMENTATION: (
        *_SEGMENTED,
        AttributeClaim("MaximumFractionalValue", "ANAP", "FIXED", "255; FRACTIONAL alone"),
        AttributeClaim("SegmentationFractionalType", "ANAP", "FIXED", "PROBABILITY; FRACTIONAL alone"),
    ),
    LABEL_MAP_SEGMENTATION: (
        *_SEGMENTED,
        AttributeClaim("PixelPaddingValue", "ALWAYS", "FIXED", "0, the background"),
    ),
    RT_STRUCTURE_SET: (
        *_COMMON,
        *_PLACED,
        *_always(
            SeriesNumber=f"{SERIES_NUMBER_BASE['RTSTRUCT']} and the source's",
            StructureSetLabel="AUTO and the card, at most 16 characters",
            StructureSetName="as SeriesDescription",
            StructureSetDescription=f"card and version; {RESEARCH_NOTE}",
            StructureSetDate="of the case",
            StructureSetTime="of the case",
            ReferencedFrameOfReferenceSequence="the source study and series with every instance",
            StructureSetROISequence="one item a structure: name, algorithm and version",
            ROIContourSequence="one item a structure: colour, CLOSED_PLANAR contours on the planes of the source, each "
            "with its image; holes by keyholes",
            RTROIObservationsSequence="one item a structure: codes, RTROIInterpretedType",
        ),
        *_fixed(SOPClassUID="of the object", Modality="RTSTRUCT", ApprovalStatus="UNAPPROVED"),
        AttributeClaim("OperatorsName", "VNAP", "FIXED", "empty"),
    ),
    SECONDARY_CAPTURE: (
        *_COMMON,
        *_copied(
            "ANAP",
            "BodyPartExamined",
            "Laterality",
            "RecognizableVisualFeatures",
            "LossyImageCompressionRatio",
            "LossyImageCompressionMethod",
        ),
        *_always(
            SeriesNumber=f"{SERIES_NUMBER_BASE['SC']} and the source's",
            ContentDate="of the case",
            ContentTime="of the case",
            DerivationDescription=f"planes with contours, card and version; {RESEARCH_NOTE}",
            SourceImageSequence="every source instance",
            Rows="of the picture",
            Columns="of the picture",
            BurnedInAnnotation="NO, or YES where the source says so: no text of the patient is drawn",
            LossyImageCompression="00, or 01 where the source was compressed with loss",
            PixelData="native: planes, contours, letters, scale bars, names of structures",
        ),
        *_fixed(
            SOPClassUID="of the object",
            Modality="OT",
            ConversionType="WSD",
            ImageType="DERIVED\\SECONDARY",
            DerivationCodeSequence="113072, DCM, Multiplanar reformatting",
            SamplesPerPixel="3",
            PhotometricInterpretation="RGB",
            PlanarConfiguration="0",
            BitsAllocated="8",
            BitsStored="8",
            HighBit="7",
            PixelRepresentation="0",
        ),
        AttributeClaim("PatientOrientation", "VNAP", "FIXED", "empty"),
    ),
}
