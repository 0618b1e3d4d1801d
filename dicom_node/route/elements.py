"""What a header says under a DICOM keyword, as values that can be compared.

Numbers are compared as numbers, dates and times as such, ages as days, everything else as text without regard to case
and to the spaces around it (PS3.5 6.2: leading and trailing spaces carry no meaning in the VRs concerned).
"""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
from collections.abc import Callable, Iterator, MutableSequence
from enum import Enum

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.errors import BytesLengthException

Comparable = str | float | dt.date | dt.time | dt.datetime

_UNREADABLE = (
    BytesLengthException,
    ValueError,
    TypeError,
    KeyError,
    NotImplementedError,
    AttributeError,
    OverflowError,
    struct.error,
)
_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
_DATE = re.compile(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?")
_DATETIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.(\d{1,6}))?([+-]\d{4})?")
_AGE = re.compile(r"(\d{1,3})([DWMY])")


class Family(Enum):
    """How the values of a VR are compared."""

    NUMBER = "a number"
    DATE = "a date"
    TIME = "a time"
    DATETIME = "a date and time"
    AGE = "an age such as 045Y"
    TEXT = "text"
    OPAQUE = "not comparable"

    @property
    def is_ordered(self) -> bool:
        """Whether greater and less mean something."""
        return self not in {Family.TEXT, Family.OPAQUE}


_FAMILIES = {
    **dict.fromkeys(("DS", "IS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "US or SS"), Family.NUMBER),
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT"), Family.TEXT),
    "DA": Family.DATE,
    "TM": Family.TIME,
    "DT": Family.DATETIME,
    "AS": Family.AGE,
}


def value_representation(keyword: str) -> str | None:
    """VR of a DICOM keyword (PS3.6), None where there is no such keyword."""
    tag = tag_for_keyword(keyword)
    return None if tag is None else dictionary_VR(tag)


def family(vr: str) -> Family:
    """How values of this VR are compared."""
    return _FAMILIES.get(vr, Family.OPAQUE)


def identifies_patient(keyword: str) -> bool:
    """Whether the value must stay out of traces and logs: names, and the patient's identification (group 0010).

    Sex, age, size and weight are told: rules are written over them, and they name nobody.
    """
    tag = tag_for_keyword(keyword)
    if tag is None or dictionary_VR(tag) == "PN":
        return True
    told = {"PatientSex", "PatientAge", "PatientSize", "PatientWeight"}
    return tag >> 16 == 0x0010 and keyword not in told


def element_values(header: Dataset, keyword: str) -> tuple[object, ...]:
    """The values under a keyword; none where the element is absent, empty or cannot be decoded.

    Multi-frame objects keep many attributes in functional groups (PS3.3 C.7.6.16): where the top level has none, the
    shared groups and those of the first frame are looked into.
    """
    for dataset in _places(header):
        element = _read_element(dataset, keyword)
        if element is not None and not element.is_empty:
            values = element.value
            several = isinstance(values, MutableSequence)
            return tuple(value for value in (values if several else [values]) if str(value).strip())
    return ()


def comparable(vr: str, value: object) -> Comparable:
    """A header's value, ready to be compared.

    Raises:
        ValueError: The value is not what its VR promises.
    """
    kind, text = family(vr), str(value).strip(" \0")
    if kind is Family.NUMBER:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is not finite")
        return number
    if kind is Family.TEXT:
        return text.rstrip("^").lower() if vr == "PN" else text.lower()
    if kind not in _PARSERS:
        raise ValueError(f"values of VR {vr} cannot be compared")
    return _PARSERS[kind](text)


def _places(header: Dataset) -> Iterator[Dataset]:
    yield header
    for groups_keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        groups = header.get(groups_keyword)
        for group in groups[0] if groups else ():
            if group.VR == "SQ" and group.value:
                yield group.value[0]


def _read_element(dataset: Dataset, keyword: str) -> DataElement | None:
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return None
    try:
        return dataset[tag]
    except _UNREADABLE:
        return None


def _matched(expression: re.Pattern[str], text: str, wanted: str) -> re.Match[str]:
    match = expression.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not {wanted}')
    return match


def _date(text: str) -> dt.date:
    year, month, day = _matched(_DATE, text, Family.DATE.value).groups()
    return dt.date(int(year), int(month), int(day))


def _time(text: str) -> dt.time:
    hour, minute, second, fraction = _matched(_TIME, text, Family.TIME.value).groups()
    return dt.time(int(hour), int(minute or 0), _second(second), int((fraction or "").ljust(6, "0")))


def _datetime(text: str) -> dt.datetime:
    parts = _matched(_DATETIME, text, Family.DATETIME.value).groups()
    year, month, day, hour, minute, second, fraction, offset = parts
    zone = dt.UTC
    if offset:
        zone = dt.timezone(dt.timedelta(minutes=int(offset[0] + "1") * (int(offset[1:3]) * 60 + int(offset[3:]))))
    return dt.datetime(
        int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), _second(second),
        int((fraction or "").ljust(6, "0")), tzinfo=zone,
    )  # fmt: skip


def _second(text: str | None) -> int:
    return min(int(text or 0), 59)  # 60 is a leap second (PS3.5 6.2)


def _age(text: str) -> float:
    count, unit = _matched(_AGE, text.upper(), Family.AGE.value).groups()
    return int(count) * _DAYS[unit]


_PARSERS: dict[Family, Callable[[str], Comparable]] = {
    Family.DATE: _date,
    Family.TIME: _time,
    Family.DATETIME: _datetime,
    Family.AGE: _age,
}
