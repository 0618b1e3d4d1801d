"""The one list of structures: codes, names, colours, as anatomy.toml holds them."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from dicom_node.errors import SettingsError

INTERPRETED_TYPES = (
    "EXTERNAL", "PTV", "CTV", "GTV", "TREATED_VOLUME", "IRRAD_VOLUME", "BOLUS", "AVOIDANCE", "ORGAN", "MARKER",
    "REGISTRATION", "ISOCENTER", "CONTRAST_AGENT", "CAVITY", "BRACHY_CHANNEL", "BRACHY_ACCESSORY", "BRACHY_SRC_APP",
    "BRACHY_CHNL_SHLD", "SUPPORT", "FIXATION", "DOSE_REGION", "CONTROL", "DOSE_MEASUREMENT", "DEVICE", "",
)  # fmt: skip
"""Defined terms of RTROIInterpretedType, which may be empty (PS3.3 C.8.8.8)."""
LATERALITIES = {"7771000": "Left", "24028007": "Right", "51440002": "Bilateral", "66459002": "Unilateral"}
"""Codes of SNOMED CT that say the side, and their meanings (PS3.16 CID 244)."""
_PLAIN = re.compile(r"[ -\[\]-~]*")


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
        laterality: Left, Right, or one of the others of CID 244, as a type modifier; None for unpaired structures.
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
    return {entry["name"]: parse_structure(entry, origin="anatomy.toml") for entry in anatomy_document()["structure"]}


def parse_structure(entry: dict[str, Any], *, origin: str) -> Structure:
    """One ``[[structure]]`` table.

    Args:
        entry: name, type and category ({value, meaning, scheme}), color, and optionally interpreted_type,
            laterality, modifier, region, alias, volume_ml and pieces.
        origin: What error messages call the file.

    Raises:
        SettingsError: A key is missing or of the wrong kind, or an attribute of DICOM cannot hold a value.
    """
    try:
        return Structure(
            name=plain_text(entry["name"], "name", 64),
            type=_code(entry["type"], "type"),
            category=_code(entry["category"], "category"),
            color=_color(entry["color"]),
            interpreted_type=_interpreted_type(entry.get("interpreted_type", "ORGAN")),
            laterality=_laterality(entry),
            alias=plain_text(entry.get("alias", ""), "alias", 16, least=0),
            modifier=_modifier(entry),
            region=_code(entry["region"], "region") if "region" in entry else None,
            volume_ml=_volume_limits(entry["volume_ml"]) if "volume_ml" in entry else None,
            pieces=_piece_count(entry["pieces"]) if "pieces" in entry else None,
        )
    except KeyError as error:
        raise SettingsError(f"{origin}: structure {entry.get('name', '?')!r}: {error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{origin}: structure {entry.get('name', '?')!r}: {error}") from error


def plain_text(value: Any, what: str, most: int, *, least: int = 1) -> str:
    """A text that every attribute of DICOM of that length holds, in whatever character set its object is.

    Args:
        value: What a settings file says.
        what: What messages call it.
        most: Most characters.
        least: Fewest characters.

    Raises:
        ValueError: It is no text of ASCII characters, has a backslash, a line break or spaces at an end (PS3.5 6.2 has
            them as separators and padding), or has too few or too many characters.
    """
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise ValueError(f"{what} is a text of {least} to {most} characters, got {value!r}")
    if not _PLAIN.fullmatch(value) or value != value.strip():
        raise ValueError(
            f"{what} holds ASCII characters other than the backslash, without line breaks or spaces at its ends, "
            f"got {value!r}"
        )
    return value


def _code(value: Any, what: str) -> Code:
    """Lengths of SH and LO (PS3.3 Table 8.8-1)."""
    if not isinstance(value, dict) or not {"value", "meaning"} <= set(value) <= {"value", "meaning", "scheme"}:
        raise ValueError(f'{what} is a code {{ value = "...", meaning = "...", scheme = "SCT" }}, got {value!r}')
    return Code(
        value=plain_text(value["value"], f"{what}: value", 16),
        meaning=plain_text(value["meaning"], f"{what}: meaning", 64),
        scheme=plain_text(value.get("scheme", "SCT"), f"{what}: scheme", 16),
    )


def _laterality(entry: dict[str, Any]) -> Code | None:
    """The side, whose meaning has to be that of its code: a reader believes one of them."""
    if "laterality" not in entry:
        return None
    side = _code(entry["laterality"], "laterality")
    if side.scheme != "SCT" or side.value not in LATERALITIES:
        listed = ", ".join(f"{value} ({meaning})" for value, meaning in LATERALITIES.items())
        raise ValueError(f"laterality is one of {listed} of scheme SCT, got {side.value} of {side.scheme}")
    meaning = LATERALITIES[side.value]
    if meaning in ("Left", "Right") and side.meaning != meaning:
        raise ValueError(f"laterality {side.value} means {meaning}, got {side.meaning!r}")
    return side


def _modifier(entry: dict[str, Any]) -> Code | None:
    if "modifier" not in entry:
        return None
    modifier = _code(entry["modifier"], "modifier")
    if modifier.value in LATERALITIES:
        raise ValueError(f"modifier {modifier.value} is a side; give it as laterality")
    return modifier


def _interpreted_type(value: Any) -> str:
    if value not in INTERPRETED_TYPES:
        raise ValueError(f"interpreted_type is one of {', '.join(INTERPRETED_TYPES[:-1])} or empty, got {value!r}")
    return str(value)


@cache
def anatomy_document() -> dict[str, Any]:
    """anatomy.toml as it is written: structures, and the packaged profiles."""
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
