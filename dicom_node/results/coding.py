"""Structures as coded attributes, and coded attributes as structures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from highdicom.color import CIELabColor
from pydicom import Dataset

from dicom_node.anatomy import LATERALITIES, Code, Structure, load_anatomy

ANATOMICAL_STRUCTURE = Code("91723000", "Anatomical Structure")


def code_item(code: Code) -> Dataset:
    """An item of a code sequence (PS3.3 Table 8.8-1)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item


def read_code(parent: Dataset, keyword: str) -> Code | None:
    """The first item of a code sequence; None where it is absent, empty or without a value."""
    sequence = parent.get(keyword)
    if not sequence:
        return None
    item = sequence[0]
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    if not value:
        return None
    return Code(str(value), str(item.get("CodeMeaning", "")), str(item.get("CodingSchemeDesignator", "")))


def type_item(structure: Structure) -> Dataset:
    """Property type with laterality and further modifiers inside (PS3.3 C.8.20.2, C.8.8.8)."""
    item = code_item(structure.type)
    modifiers = [code_item(code) for code in (structure.laterality, structure.modifier) if code]
    if modifiers:
        item.SegmentedPropertyTypeModifierCodeSequence = modifiers
    return item


def coded_laterality(parent: Dataset, keyword: str) -> str | None:
    """Code value of the laterality modifier (PS3.16 CID 244) of a property type, None where there is none.

    Args:
        parent: Item of SegmentSequence or RTROIObservationsSequence.
        keyword: Sequence that holds the type: SegmentedPropertyTypeCodeSequence or RTROIIdentificationCodeSequence.
    """
    sequence = parent.get(keyword)
    modifiers = sequence[0].get("SegmentedPropertyTypeModifierCodeSequence", []) if sequence else []
    values = (str(item.get("CodeValue")) for item in modifiers)
    return next((value for value in values if value in LATERALITIES), None)


def structure_of(name: str, parent: Dataset, type_keyword: str, color: tuple[int, int, int] | None) -> Structure:
    """The structure that a segment or an ROI describes.

    A name of anatomy.toml (or the alias of one) gives that entry; anything else is made from the codes at hand.

    Args:
        name: SegmentLabel or ROIName.
        parent: Item with the codes.
        type_keyword: As for :func:`coded_laterality`.
        color: Display colour, None where the object has none.
    """
    known = {key: structure for structure in load_anatomy().values() for key in (structure.name, structure.short_name)}
    if name in known:
        return known[name]
    side = coded_laterality(parent, type_keyword)
    return Structure(
        name=name,
        type=read_code(parent, type_keyword) or ANATOMICAL_STRUCTURE,
        category=read_code(parent, "SegmentedPropertyCategoryCodeSequence") or ANATOMICAL_STRUCTURE,
        color=color or color_of_name(name),
        interpreted_type=str(parent.get("RTROIInterpretedType") or "ORGAN"),
        laterality=Code(side, LATERALITIES[side]) if side else None,
        region=read_code(parent, "AnatomicRegionSequence"),
    )


def srgb(encoded: Sequence[int]) -> tuple[int, int, int]:
    """The sRGB colour of a RecommendedDisplayCIELabValue, the nearest where it lies outside sRGB."""
    red, green, blue = CIELabColor.from_dicom_value([int(value) for value in encoded]).to_rgb()
    return int(red), int(green), int(blue)


def color_of_name(name: str) -> tuple[int, int, int]:
    """A colour that is the same each time for a name that has none of its own."""
    hue = sum(ord(letter) * (place + 1) for place, letter in enumerate(name)) * 0.618034 % 1.0
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.55, 0.9))
    return red, green, blue
