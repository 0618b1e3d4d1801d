"""Which images may become a volume at all: images of a CT or MR scanner, grey, acquired, of one patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from dicom_node.errors import SeriesRefused
from dicom_node.imaging.instances import Instance

VOLUME_CLASSES = {
    CTImageStorage: "CT",
    EnhancedCTImageStorage: "CT",
    MRImageStorage: "MR",
    EnhancedMRImageStorage: "MR",
}
SECONDARY_CAPTURE_CLASSES = {
    SecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
}
CAPTURED_CONVERSIONS = {"DV", "DI", "DF", "SD", "SI", "DRW"}
"""ConversionType of digitised video, interfaces, films, documents and drawings (PS3.3 C.8.6.1)."""

LOCALIZER_TERMS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"}
CAPTURE_TERMS = {"SCREEN SAVE", "SCREENSAVE", "DOSE_INFO", "PATIENT_INFO", "REF_SURVIEW", "CSA REPORT"}
PROJECTION_TERMS = {"MIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "VOLUME RENDERING", "VRT", "SSD"}
NOT_HOUNSFIELD = {"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"}
"""RescaleType of CT images whose values are no Hounsfield units (PS3.3 C.11.1.1.2)."""


@dataclass(frozen=True)
class _Bar:
    """One reason to refuse: which images it holds for, and how to say it of one and of several."""

    kind: str
    applies: Callable[[Instance], bool]
    of_one: str
    of_several: str = ""
    """Empty: the same words."""


def image_type(instance: Instance) -> tuple[str, ...]:
    """The values of ImageType, upper case."""
    value = instance.header.get("ImageType") or ()
    values = tuple(value) if isinstance(value, MultiValue | tuple) else (value,)  # damaged ones may be of any type
    return tuple(str(term).strip().upper() for term in values)


def require_volume_images(instances: Sequence[Instance]) -> str:
    """Check what can be told from each image alone.

    Args:
        instances: All instances of one series.

    Returns:
        The modality, "CT" or "MR".

    Raises:
        SeriesRefused: No image; or some are localizers, secondary captures, colour, projections, of another modality,
            of another SOP class or in a transfer syntax that cannot be decoded. Names the images.
    """
    if not instances:
        raise SeriesRefused("The series holds no image.", kind="empty")
    for bar in _BARS:
        barred = [instance for instance in instances if bar.applies(instance)]
        if barred:
            raise _refusal(bar, barred, instances)
    _require_one_of_each(instances)
    return VOLUME_CLASSES[instances[0].sop_class_uid]


def _is_secondary_capture(instance: Instance) -> bool:
    conversion = str(instance.header.get("ConversionType") or "")
    return (
        instance.sop_class_uid in SECONDARY_CAPTURE_CLASSES
        or conversion in CAPTURED_CONVERSIONS
        or not CAPTURE_TERMS.isdisjoint(image_type(instance))
    )


def _is_colour(instance: Instance) -> bool:
    photometric = str(instance.header.get("PhotometricInterpretation") or "")
    samples = int(instance.header.get("SamplesPerPixel") or 1)
    return samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2")


def _is_projection(instance: Instance) -> bool:
    technique = str(instance.header.get("VolumeBasedCalculationTechnique") or "")
    return not PROJECTION_TERMS.isdisjoint({*image_type(instance), technique})


def _is_undecodable(instance: Instance) -> bool:
    try:
        return not get_decoder(instance.transfer_syntax_uid).is_available
    except NotImplementedError:
        return True


def _has_odd_bits(instance: Instance) -> bool:
    header = instance.header
    allocated, stored = int(header.get("BitsAllocated") or 0), int(header.get("BitsStored") or 0)
    return allocated not in (8, 16, 32) or not 1 <= stored <= allocated


_BARS = (
    _Bar(
        "secondary-capture",
        _is_secondary_capture,
        "a secondary capture (screenshot or report), not a slice",
        "secondary captures (screenshots or reports), not slices",
    ),
    _Bar(
        "modality",
        lambda instance: instance.modality not in ("CT", "MR"),
        "of a modality other than CT and MR",
    ),
    _Bar(
        "localizer",
        lambda instance: not LOCALIZER_TERMS.isdisjoint(image_type(instance)),
        "a localizer (scout view), not a slice of a volume",
        "localizers (scout views), not slices of a volume",
    ),
    _Bar(
        "projection",
        _is_projection,
        "a projection through the volume (MIP or rendering), not a slice",
        "projections through the volume (MIP or rendering), not slices",
    ),
    _Bar(
        "sop-class",
        lambda instance: VOLUME_CLASSES.get(instance.sop_class_uid) != instance.modality,
        "neither a CT, MR, Enhanced CT nor Enhanced MR image",
        "neither CT, MR, Enhanced CT nor Enhanced MR images",
    ),
    _Bar("colour", _is_colour, "a colour image", "colour images"),
    _Bar("pixel-format", _has_odd_bits, "stored with a number of bits that CT and MR images cannot have"),
    _Bar("transfer-syntax", _is_undecodable, "compressed in a way that cannot be decoded here"),
)


def _refusal(bar: _Bar, barred: Sequence[Instance], instances: Sequence[Instance]) -> SeriesRefused:
    """All or some of the images: the numbers of those that do not belong are what a person needs."""
    first = barred[0]
    shown = ", ".join(instance.name for instance in barred[:6])
    more = f" and {len(barred) - 6} more" if len(barred) > 6 else ""
    if len(barred) == len(instances):
        subject = f"All {len(instances)} images are" if len(instances) > 1 else f"The only image ({first.name}) is"
        advice = "There is nothing to segment in this series."
    else:
        subject = f"{len(barred)} of {len(instances)} images ({shown}{more}) {'is' if len(barred) == 1 else 'are'}"
        advice = "Send the slices as a series of their own."
    detail = {
        "modality": f": {first.modality or 'none given'}",
        "sop-class": f": {UID(first.sop_class_uid).name}",
        "transfer-syntax": f": {first.transfer_syntax_uid.name}",
        "colour": f" ({first.header.get('PhotometricInterpretation')})",
    }.get(bar.kind, "")
    words = bar.of_several if len(barred) > 1 and bar.of_several else bar.of_one
    return SeriesRefused(f"{subject} {words}{detail}. {advice}", kind=bar.kind)


def _require_one_of_each(instances: Sequence[Instance]) -> None:
    """One patient, one study, one SOP class; values that identify a patient are not repeated in the message."""
    for keyword, kind, what in (
        ("PatientID", "mixed-patients", "more than one patient (PatientID differs)"),
        ("StudyInstanceUID", "mixed-studies", "more than one study (StudyInstanceUID differs)"),
        ("SOPClassUID", "mixed-classes", "more than one SOP class"),
        ("FrameOfReferenceUID", "mixed-frames-of-reference", "more than one frame of reference"),
    ):
        first = str(instances[0].header.get(keyword) or "")
        others = [one for one in instances if str(one.header.get(keyword) or "") != first]
        if others:
            raise SeriesRefused(
                f"The series mixes images of {what}: {instances[0].name} and {others[0].name}. "
                "Send each as a series of its own.",
                kind=kind,
            )
