"""The card whose anatomy fits a series, where no rule names one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from pydicom import Dataset

from dicom_node.route.elements import comparable, element_values

SMALL_FIELD_MM = 200.0
"""Field of view, in mm, up to which a series that names no body part counts as one of a knee."""

_WORDS = {
    "knee": r"knee|genou|knie|rodilla|ginocchio|joelho|patell|menis[ck]|tibiofem|femoropat",
    "torso": (
        r"chest|thora|lung|poumon|heart|cardiac|coeur|herz|mediast|breast|abdo|bauch|belly|liver|foie|leber|kidney"
        r"|renal|niere|spleen|pancrea|pankrea|colon|bowel|stomach|pelvi|becken|bassin|prostat|uter|bladder|vessie"
        r"|rectum|hanche|h.fte|sacr|lumb|\bl[wb]s\b|(?<!c.)(?<!c)spine|rachis|aort|trunk|torso|whole.?body"
        r"|(?<![a-z])(?:hip|hips|rib|ribs|tap|rein|reins|rate)(?![a-z])"
    ),
    "other": (
        r"head|brain|skull|crane|cr.ne|kopf|sch.del|cerebr|neuro|orbit|sinus|dental|neck|hals|cervic|c.?spine|hws"
        r"|shoulder|.paule|schulter|elbow|coude|ellenb|wrist|poignet|hand|finger|ankle|cheville|sprungg|foot|fuss|calcan"
        r"|(?<![a-z])(?:cou|jaw|pied|t.te)(?![a-z])"
    ),
}
_PARTS = {part: re.compile(words, re.IGNORECASE) for part, words in _WORDS.items()}
_TEXTS = ("ProtocolName", "SeriesDescription", "StudyDescription")


def fit_card(header: Dataset, cards: Collection[str]) -> tuple[str, str]:
    """The card that fits, and why.

    What names a body part first decides: BodyPartExamined or the coded anatomic region, then the protocol's and the
    descriptions' words (English, French, German and the Romance words for knee). Where nothing does, a field of view of
    at most SMALL_FIELD_MM is taken for a knee. Everything else, a head as well, goes to the torso card: nothing is
    discarded, and structures that are not there are not found.

    Args:
        header: Of one instance of the series.
        cards: Names of the cards to choose from.

    Returns:
        The card's name, and the reason for a person.
    """
    part, reason = _named_part(header) or _part_by_size(header)
    if part == "knee" and "knee" in cards:
        return "knee", reason
    card = "torso" if "torso" in cards else min(cards)
    return card, reason if part == "torso" else f"{reason}; no card covers that, so {card} by default"


def _named_part(header: Dataset) -> tuple[str, str] | None:
    for keyword, text in _texts(header):
        for part, words in _PARTS.items():
            found = words.search(text)
            if found:
                return part, f'{keyword} names "{found[0]}" ({part})'
    return None


def _texts(header: Dataset) -> Iterator[tuple[str, str]]:
    for value in element_values(header, "BodyPartExamined"):
        yield "BodyPartExamined", str(value)
    for region in element_values(header, "AnatomicRegionSequence"):
        if isinstance(region, Dataset):
            yield "AnatomicRegionSequence", str(region.get("CodeMeaning", ""))
    for keyword in _TEXTS:
        for value in element_values(header, keyword):
            yield keyword, str(value)


def _part_by_size(header: Dataset) -> tuple[str, str]:
    field = _field_of_view_mm(header)
    if field is None:
        return "torso", "no body part and no field of view is named"
    if field <= SMALL_FIELD_MM:
        return "knee", f"no body part is named and the field of view is small: {field:.0f} mm"
    return "torso", f"no body part is named and the field of view is {field:.0f} mm"


def _field_of_view_mm(header: Dataset) -> float | None:
    """The longer side of the image, in mm."""
    spacing = element_values(header, "PixelSpacing")
    counts = (*element_values(header, "Rows"), *element_values(header, "Columns"))
    if len(spacing) != 2 or len(counts) != 2:
        return None
    try:
        sides = [comparable("DS", mm) * comparable("US", count) for mm, count in zip(spacing, counts, strict=True)]  # type: ignore[operator]
    except ValueError:
        return None
    return float(max(sides))
