"""``encode`` and ``decode``: anyone's label map to DICOM and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dicom_node.cli.printing import print_json, print_table
from dicom_node.logs import configure_logs
from dicom_node.profiles import Profile
from dicom_node.results.codec import decode, encode


def run_encode(
    series: Path, labels: Path | None, structures: Path, output: Path, profile: Profile, *, as_json: bool
) -> None:
    """Write the SEG and RTSTRUCT of a label map and print where they are."""
    configure_logs(json=False, level="WARNING")
    encoded = encode([series], labels, structures, output, profile)
    document = {"files": [str(path) for path in encoded.files], "notes": encoded.notes, "warnings": encoded.warnings}
    _print(document, as_json=as_json)


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
