"""What peers say beside a status, as it may stand in the log and the ledger: they like to name the patient in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pydicom
from pydicom.errors import InvalidDicomError

_NAMING: Final = ("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs")
_LEAST: Final = 3
"""Characters from which a part of a name is left out wherever it stands; shorter ones would be found everywhere."""
_LONGEST: Final = 64
"""ErrorComment (0000,0902) is of value representation LO."""


def without_patient(words: str, path: Path) -> str:
    """An ErrorComment without what names the patient of the result that it is about.

    Args:
        words: What the peer said.
        path: The result.
    """
    if not words.strip():
        return ""
    try:
        header = pydicom.dcmread(path, specific_tags=["SpecificCharacterSet", *_NAMING], stop_before_pixels=True)
        values = [str(header.get(keyword) or "") for keyword in _NAMING]
    except (OSError, InvalidDicomError, ValueError, LookupError):
        return ""  # who the patient is cannot be told, so neither can what the peer says
    # PostgreSQL, for one, takes no text with a NUL in it
    said = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())[:_LONGEST]
    parts = {part for value in values for part in (value, *re.split(r"[\W_]+", value)) if len(part) >= _LEAST}
    for part in sorted(parts, key=len, reverse=True):
        said = re.sub(re.escape(part), "...", said, flags=re.IGNORECASE)
    return said
