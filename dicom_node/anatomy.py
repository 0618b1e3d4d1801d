"""The one list of structures: codes, names, colours, as anatomy.toml holds them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from dicom_node.errors import SettingsError


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 Table 8.8-1): value, scheme ("SCT") and meaning."""

    value: str
    meaning: str
    scheme: str = "SCT"


@dataclass(frozen=True)
class Structure:
    """One anatomical structure.

    Attributes:
        name: TG-263 primary name, and the name cards and settings use.
        type: Segmented property type (SNOMED CT).
        category: Segmented property category (SNOMED CT, CID 7150).
        color: Display colour as sRGB, 0 to 255.
        interpreted_type: RTROIInterpretedType (PS3.3 C.8.8.8), ORGAN unless said otherwise.
        laterality: Left or Right as a type modifier (CID 244), None for unpaired structures.
        modifier: A further type modifier (medial, anterior ...), None where the type says it all.
        region: Anatomic region that tells structures of one type apart (the cartilage of the femur from the tibia's).
        alias: At most 16 characters, for systems that cut longer names.
    """

    name: str
    type: Code
    category: Code
    color: tuple[int, int, int]
    interpreted_type: str = "ORGAN"
    laterality: Code | None = None
    alias: str = ""
    modifier: Code | None = None
    region: Code | None = None

    @property
    def short_name(self) -> str:
        """The alias, or the name where it has at most 16 characters."""
        return self.alias or self.name[:16]


@dataclass(frozen=True)
class Profile:
    """How results are made for a destination.

    Attributes:
        name_length: Longest ROIName the destination takes.
        seg: SegmentationType: "BINARY" or "LABELMAP".
        irregular_contours: Whether tilted or unevenly spaced series get an RTSTRUCT too.
    """

    name_length: int = 16
    seg: Literal["BINARY", "LABELMAP"] = "BINARY"
    irregular_contours: bool = False


@cache
def load_anatomy() -> dict[str, Structure]:
    """Every structure of anatomy.toml by name.

    Raises:
        SettingsError: The file in the package is damaged.
    """
    return {entry["name"]: parse_structure(entry, origin="anatomy.toml") for entry in _document()["structure"]}


@cache
def load_profiles() -> dict[str, Profile]:
    """Every ``[profile.NAME]`` of anatomy.toml by name; "default" is always there.

    Raises:
        SettingsError: The file in the package is damaged.
    """
    return {name: parse_profile(table, name) for name, table in _document()["profile"].items()}


def parse_profile(table: dict[str, Any], name: str) -> Profile:
    """One ``[profile.NAME]`` table.

    Raises:
        SettingsError: An unknown key or a wrong value.
    """
    try:
        profile = Profile(**table)
    except TypeError as error:
        raise SettingsError(f"profile {name!r}: {error}") from error
    if profile.seg not in ("BINARY", "LABELMAP") or not 1 <= profile.name_length <= 64:
        raise SettingsError(f'profile {name!r}: seg is "BINARY" or "LABELMAP", name_length 1 to 64; got {table}')
    return profile


def parse_structure(entry: dict[str, Any], *, origin: str) -> Structure:
    """One ``[[structure]]`` table.

    Args:
        entry: name, type and category ({value, meaning, scheme}), color, and optionally interpreted_type,
            laterality, modifier, region and alias.
        origin: What error messages call the file.

    Raises:
        SettingsError: A key is missing or of the wrong kind.
    """
    try:
        return Structure(
            name=str(entry["name"]),
            type=Code(**entry["type"]),
            category=Code(**entry["category"]),
            color=_color(entry["color"]),
            interpreted_type=str(entry.get("interpreted_type", "ORGAN")),
            laterality=_optional_code(entry, "laterality"),
            alias=str(entry.get("alias", "")),
            modifier=_optional_code(entry, "modifier"),
            region=_optional_code(entry, "region"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"{origin}: structure {entry.get('name', '?')!r}: {error}") from error


def _optional_code(entry: dict[str, Any], key: str) -> Code | None:
    return Code(**entry[key]) if key in entry else None


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads((files("dicom_node") / "anatomy.toml").read_text(encoding="utf-8"))


def _color(value: Any) -> tuple[int, int, int]:
    red, green, blue = (int(channel) for channel in value)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"color {value} is outside 0..255")
    return red, green, blue
