"""``encode`` and ``decode``: anyone's label map to DICOM and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicom_node.cli.printing import print_json, print_table
from dicom_node.logs import configure_logs
from dicom_node.profiles import Profile
from dicom_node.results.codec import decode, encode
from dicom_node.results.structure_table import load_structure_table


def run_encode(
    series: Path, labels: Path | None, structures: Path, output: Path, profile: Profile, *, as_json: bool
) -> None:
    """Write the SEG and RTSTRUCT of a label map and print where they are."""
    configure_logs(json=False, level="WARNING")
    encoded = encode([series], labels, structures, output, profile)
    notes = [*encoded.notes, *_unheeded(profile, structures)]
    document = {"files": [str(path) for path in encoded.files], "notes": notes, "warnings": encoded.warnings}
    _print(document, as_json=as_json)


def _unheeded(profile: Profile, structures: Path) -> Iterator[str]:
    """What was asked for but needs probabilities that the table does not give."""
    if any(file.kind == "probability" for file in load_structure_table(structures).files.values()):
        return
    if profile.contours == "smooth" and "RTSTRUCT" in profile.results:
        yield "contours follow pixel edges: smooth ones need a probability for each structure, and none is given"
    if profile.seg == "FRACTIONAL" and "SEG" in profile.results:
        yield "the fractional segmentation holds 0 and 1 alone: no structure is given a probability"


def run_decode(result: Path, series: Path, output: Path, *, as_json: bool) -> None:
    """Write the label map of a SEG or RTSTRUCT and print what its labels mean."""
    configure_logs(json=False, level="WARNING")
    decoded = decode(result, [series], output)
    names = {str(label): structure.name for label, structure in decoded.structures.items()}
    _print(
        {"files": [str(path) for path in decoded.paths], "structures": names, "notes": decoded.notes}, as_json=as_json
    )


def _print(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    rows = [("file", file) for file in document["files"]]
    rows += [(f"label {label}", name) for label, name in document.get("structures", {}).items()]
    rows += [("note", note) for note in document["notes"]]
    rows += [("warning", warning) for warning in document.get("warnings", [])]
    print_table("written", ("", ""), rows)
