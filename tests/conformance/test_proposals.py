"""What peers are really offered by every activity of the node, against what the statement claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pynetdicom import AE, evt

from dicom_node.conformance.contexts import activities
from dicom_node.deliver.commitment import ask_commitment, send_report
from dicom_node.deliver.confirmation import confirm
from dicom_node.deliver.echo import RESULT_CLASSES, echo
from dicom_node.deliver.sender import send
from dicom_node.errors import DeliveryFailed
from dicom_node.profiles import Profile
from dicom_node.results.delineation import Delineation
from dicom_node.results.result_files import encode_results
from dicom_node.settings import DestinationTable, Settings
from dicom_node.storage_commitment import Report
from tests.conformance.negotiating import Accepted, claimed
from tests.peers import destination
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of

STORE, ASK = "Store results", "Ask what a destination takes"
PROFILES = {"maps": Profile(results=("SEG", "RTSTRUCT", "SC"), seg="LABELMAP", external=False)}
"""Together with its variant, every kind of result."""


@dataclass
class Acceptor:
    """A peer that takes note of what it is offered, and accepts Verification alone."""

    destination: DestinationTable
    offered: Accepted = field(default_factory=set)

    def on_requested(self, event: evt.Event) -> None:
        requestor = event.assoc.requestor
        roles = requestor.role_selection
        for context in requestor.primitive.presentation_context_definition_list:
            role = roles.get(context.abstract_syntax)
            name = "SCP" if role is not None and role.scp_role else "SCU"
            self.offered |= {(str(context.abstract_syntax), str(uid), name) for uid in context.transfer_syntax}


@pytest.fixture
def acceptor() -> Iterator[Acceptor]:
    with accepting() as peer:
        yield peer


@contextmanager
def accepting() -> Iterator[Acceptor]:
    entity = AE(ae_title="SCRIPTED")
    entity.add_supported_context("1.2.840.10008.1.1")
    peer = Acceptor(destination("scripted", "SCRIPTED", 1))
    handlers = [(evt.EVT_REQUESTED, peer.on_requested)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.destination = destination("scripted", "SCRIPTED", server.server_address[1])
    try:
        yield peer
    finally:
        entity.shutdown()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of every kind of result."""
    folder = tmp_path_factory.mktemp("results")
    labels = labels_of(phantom("axial"))
    delineation = Delineation(volume_of(phantom("axial")), labels, labels)
    written = [
        encode_results(delineation, PROVENANCE, folder / str(number), variant)
        for number, variant in enumerate(PROFILES["maps"].variants)
    ]
    return [file.path for one in written for file in one.files]


def settings_with(**changes: object) -> Settings:
    """A node whose only destination has these settings."""
    table = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, **changes}
    profiles = {name: profile.model_dump() for name, profile in PROFILES.items()}
    tables = {"archive": {"enabled": False}, "destination": [table], "profile": profiles}
    return Settings.model_validate(tables)


def claims_of(settings: Settings) -> dict[str, Accepted]:
    return {activity.name: claimed(activity.contexts) for activity in activities(settings)}


def refused(report: Callable[[], object]) -> None:
    with pytest.raises(DeliveryFailed, match="takes no reports"):
        report()


ACTIVITIES: dict[str, Callable[[DestinationTable, Sequence[Path]], object]] = {
    ASK: lambda where, _: echo(where, "NODE"),
    STORE: lambda where, files: send(where, files, "NODE"),
    "Confirm arrival by query": lambda where, _: confirm(where, [], "NODE"),
    "Request storage commitment": lambda where, _: ask_commitment(where, "1.2", [], "NODE", lambda _: None),
    "Report storage commitment": lambda where, _: refused(lambda: send_report(where, Report("1.2", ()), "NODE")),
}


@pytest.mark.parametrize("name", ACTIVITIES)
def test_an_activity_proposes_what_is_claimed_and_nothing_else(
    name: str, acceptor: Acceptor, results: list[Path]
) -> None:
    ACTIVITIES[name](acceptor.destination, results)
    assert acceptor.offered == claims_of(settings_with(profile="maps", confirm="commitment"))[name]


def test_every_activity_was_tried() -> None:
    assert claims_of(settings_with(confirm="commitment")).keys() == ACTIVITIES.keys()


@pytest.mark.parametrize(
    ("confirm", "missing"),
    [
        ("c-store", {"Confirm arrival by query", "Request storage commitment"}),
        ("c-find", {"Request storage commitment"}),
        ("commitment", set()),
    ],
)
def test_what_no_destination_is_configured_for_is_not_claimed(confirm: str, missing: set[str]) -> None:
    assert ACTIVITIES.keys() - claims_of(settings_with(confirm=confirm)).keys() == missing


def test_only_classes_that_a_profile_asks_for_are_claimed() -> None:
    stored = {sop_class for sop_class, _, _ in claims_of(settings_with(profile="planning"))[STORE]}
    assert stored == {"1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.1.1"}
    assert set(RESULT_CLASSES) <= {sop_class for sop_class, _, _ in claims_of(settings_with())[ASK]}
