"""Whose images an event is about: read from an image when the message is written, kept nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom

from dicom_node.audit.messages import Patient
from dicom_node.logs import get_logger

_log = get_logger("audit")
_KEYWORDS = ("SpecificCharacterSet", "PatientName", "PatientID", "StudyInstanceUID")


def patient_of(facts: dict[str, Any]) -> Patient:
    """The patient of the image that an event's facts name; an empty one where none can be read from it."""
    path = facts.get("path")
    if path is None:
        return Patient()
    try:
        header = pydicom.dcmread(Path(path), specific_tags=list(_KEYWORDS), stop_before_pixels=True)
    except Exception as error:  # noqa: BLE001 - whatever a file holds, the trail has to go on
        _log.warning("patient not read for the audit trail", path=str(path), error=type(error).__name__)
        return Patient()
    return Patient(*(_text(header, keyword) for keyword in ("PatientID", "PatientName", "StudyInstanceUID")))


def _text(header: pydicom.Dataset, keyword: str) -> str:
    """One value; empty where it is absent or breaks its rules."""
    try:
        value = header.get(keyword)
        return "" if value is None else str(value)
    except Exception as error:  # noqa: BLE001 - pydicom raises what it likes, and its messages quote the value
        _log.warning("value not read for the audit trail", keyword=keyword, error=type(error).__name__)
        return ""
