"""The one list of structures: codes, names, colours, as anatomy.toml holds them."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

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
        alias: At most 16 characters, for systems that cut longer names; TG-263's name or in its style.
        volume_ml: Smallest and largest volume of the whole structure in an adult, None where nobody knows.
        pieces: Most connected pieces it lies in, None where any number is right.
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
    volume_ml: tuple[float, float] | None = None
    pieces: int | None = None

    @property
    def short_name(self) -> str:
        """The alias, or the name where it has at most 16 characters."""
        return self.alias or self.name[:16]


@cache
def load_anatomy() -> dict[str, Structure]:
    """Every structure of anatomy.toml by name.

    Raises:
        SettingsError: The file in the package is damaged.
    """
    return {entry["name"]: parse_structure(entry, origin="anatomy.toml") for entry in _document()["structure"]}


def parse_structure(entry: dict[str, Any], *, origin: str) -> Structure:
    """One ``[[structure]]`` table.

    Args:
        entry: name, type and category ({value, meaning, scheme}), color, and optionally interpreted_type,
            laterality, modifier, region, alias, volume_ml and pieces.
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
            volume_ml=_volume_limits(entry["volume_ml"]) if "volume_ml" in entry else None,
            pieces=_piece_count(entry["pieces"]) if "pieces" in entry else None,
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


def _volume_limits(value: Any) -> tuple[float, float]:
    numbers = isinstance(value, list) and all(type(limit) in (int, float) for limit in value)
    if not numbers or len(value) != 2 or not 0 <= value[0] < value[1] < math.inf:
        raise ValueError(f"volume_ml is [smallest, largest] in ml, 0 <= smallest < largest; got {value!r}")
    return float(value[0]), float(value[1])


def _piece_count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"pieces is a whole number from 1; got {value!r}")
    return value
