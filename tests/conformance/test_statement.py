"""The text of the statement: what it says of statuses and objects is so, and both formats say the same."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node.conformance import conformance_statement, to_html, to_markdown
from dicom_node.conformance.acceptor import STORE_STATUSES
from dicom_node.conformance.objects import AttributeClaim, created_objects
from dicom_node.profiles import Profile
from dicom_node.receive import storing
from dicom_node.results.delineation import Delineation
from dicom_node.results.result_files import encode_results
from dicom_node.settings import Settings
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of, with_header

SETTINGS = Settings.model_validate(
    {
        "destination": [
            {"name": "pacs", "ae_title": "PACS|_*<b>", "host": "10.0.0.1", "port": 104, "profile": "maps"},
        ],
        "peer": [{"ae_title": "[CT](x)", "address": "10.0.0.0/8", "storage_classes": ["1.2.840.10008.5.1.4.1.1.2"]}],
        "profile": {"maps": {"seg": "LABELMAP", "external": False}},
    }
)
ALL = ("SEG", "RTSTRUCT", "SC")
VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """The text of a page; its tags have to close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"td", "th"}:
            self.cells[-1] += data


def cells_of(settings: Settings) -> list[str]:
    """Every cell of every table of the value itself."""
    found: list[str] = []

    def walk(sections: object) -> None:
        for section in sections:  # type: ignore[attr-defined]
            for block in section.blocks:
                for row in (getattr(block, "header", ()), *getattr(block, "rows", ())):
                    found.extend(row)
            walk(section.sections)

    walk(conformance_statement(settings).sections)
    return found


def test_html_shows_every_cell_as_it_is_and_needs_nothing_else() -> None:
    page = Page(to_html(conformance_statement(SETTINGS)))
    assert page.cells == cells_of(SETTINGS)
    assert {"PACS|_*<b>", "[CT](x)"} <= set(page.cells)
    assert page.addresses == []


def test_html_has_the_sections_of_the_markdown() -> None:
    statement = conformance_statement(SETTINGS)
    headings = [line.lstrip("# ") for line in to_markdown(statement).splitlines() if line.startswith("#")]
    text = to_html(statement)
    assert len(headings) > 40
    assert [heading for heading in headings if heading.replace("<", "&lt;").split("\\")[0] not in text] == []


@pytest.mark.parametrize(
    ("audit", "said"),
    [
        (None, "No audit trail is kept"),
        ({"file": "audit.xml"}, "are sent to a file: Application Activity"),
        ({"syslog": "udp://log.example"}, "by syslog over UDP (RFC 5426)"),
        ({"file": "audit.xml", "syslog": "tcp://log.example"}, "to a file and by syslog over TCP, in the clear"),
    ],
)
def test_the_audit_trail_is_claimed_as_it_is_set(audit: dict[str, str] | None, said: str) -> None:
    settings = Settings.model_validate({} if audit is None else {"audit": audit})
    assert said in to_html(conformance_statement(settings))


def test_every_status_of_reception_is_explained() -> None:
    public = {name: value for name, value in vars(storing).items() if name.isupper() and not name.startswith("_")}
    assert {value for value in public.values() if isinstance(value, int)} == set(STORE_STATUSES)


@pytest.mark.parametrize("profile", [Profile(results=ALL), Profile(seg="LABELMAP"), Profile(seg="FRACTIONAL")])
@pytest.mark.parametrize("bare", [True, False])
def test_created_objects_have_the_attributes_that_are_claimed(profile: Profile, bare: bool, tmp_path: Path) -> None:
    volume, labels = volume_of(phantom("axial")), labels_of(phantom("axial"))
    if bare:
        volume = with_header(
            volume, PatientName=None, StudyDate=None, Manufacturer=None, PatientID=None, BodyPartExamined=None
        )
    else:
        volume = with_header(volume, PatientAge="040Y", LossyImageCompression="01", LossyImageCompressionRatio=8)
    written = encode_results(Delineation(volume, labels, labels), PROVENANCE, tmp_path / "case", profile)
    settings = Settings.model_validate({"profile": {"default": profile.model_dump()}})
    claims = {item.sop_class: {one.keyword: one for one in item.attributes} for item in created_objects(settings)}
    for file in written.files:
        dataset = dcmread(file.path)
        assert list(faults(dataset, claims[str(dataset.SOPClassUID)])) == []


def faults(dataset: Dataset, claims: dict[str, AttributeClaim]) -> list[str]:
    there = {element.keyword: element for element in dataset}
    found = [f"{keyword} is not claimed" for keyword in there.keys() - claims.keys()]
    for keyword, claim in claims.items():
        if claim.presence != "ANAP" and keyword not in there:
            found.append(f"{keyword} is absent")
        if claim.presence == "ALWAYS" and keyword in there and there[keyword].is_empty:
            found.append(f"{keyword} is empty")
    return found
