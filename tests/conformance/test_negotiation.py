"""The statement against live listeners: nothing is claimed that is refused, nothing accepted that is not claimed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.archive import Archive
from dicom_node.conformance import conformance_statement
from dicom_node.conformance.contexts import accepted_contexts
from dicom_node.settings import CredentialsTable, Settings
from dicom_node.tls import client_context
from tests.certificates import Authority
from tests.conformance.negotiating import (
    EVERY_CLASS,
    EVERY_SYNTAX,
    STORAGE_CLASSES,
    accepted_by,
    claimed,
    negotiator,
    taken_by,
)
from tests.peers import CALLING_AE, receiver

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
PET, PRIVATE = "1.2.840.10008.5.1.4.1.1.128", "1.2.826.0.1.3680043.9.9999.1"
SERVICES = ("1.2.840.10008.1.1", "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.1.2.2.1")


def test_there_is_something_to_try() -> None:
    assert (len(EVERY_CLASS) > 250, len(STORAGE_CLASSES) > 150, len(EVERY_SYNTAX) > 50) == (True, True, True)


def test_a_listener_accepts_what_is_claimed_and_nothing_else(tmp_path: Path) -> None:
    with receiver(tmp_path) as node:
        accepted = accepted_by(negotiator(node.listener.port, CALLING_AE), EVERY_CLASS)
        assert accepted == claimed(conformance_statement(node.settings).accepted)


def test_storage_classes_of_the_settings_are_claimed_private_ones_too(tmp_path: Path) -> None:
    with receiver(tmp_path, node={"storage_classes": [PET, PRIVATE]}) as node:
        accepted = accepted_by(negotiator(node.listener.port, CALLING_AE), [CT, PET, PRIVATE, *SERVICES])
        claims = claimed(conformance_statement(node.settings).accepted)
        assert accepted == {claim for claim in claims if claim[0] in {CT, PET, PRIVATE, *SERVICES}}
        assert {PET, PRIVATE} <= {sop_class for sop_class, _, _ in claims}


def test_a_peer_with_classes_of_its_own_is_accepted_what_is_claimed_for_it(tmp_path: Path) -> None:
    peers = [{"ae_title": "MR_ONLY", "address": "127.0.0.0/8", "storage_classes": [MR]}]
    with receiver(tmp_path, peer=peers) as node:
        negotiate = negotiator(node.listener.port, CALLING_AE, calling="MR_ONLY")
        accepted = accepted_by(negotiate, [*STORAGE_CLASSES, *SERVICES])
        assert accepted == claimed(accepted_contexts(node.settings, node.settings.peers[0]))
        assert CT not in {sop_class for sop_class, _, _ in accepted}


def test_over_tls_the_same_is_accepted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with receiver(tmp_path / "home", tls=authority.issue("node").table) as node:
        context = client_context(CredentialsTable(**vars(authority.issue("scanner"))))
        negotiate = negotiator(node.listener.tls_port, CALLING_AE, tls_args=(context, "127.0.0.1"))
        accepted = accepted_by(negotiate, [*STORAGE_CLASSES, *SERVICES])
        assert accepted == claimed(conformance_statement(node.settings).accepted)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[tuple[Archive, Settings]]:
    settings = Settings.model_validate({"node": {"home": str(tmp_path)}})
    started = Archive(settings, port=0)
    started.start()
    yield started, settings
    started.stop()


def test_the_embedded_archive_accepts_what_is_claimed(archive: tuple[Archive, Settings]) -> None:
    started, settings = archive
    claims = claimed(conformance_statement(settings).archive)
    negotiate = negotiator(started.port, settings.archive.ae_title)
    assert set(taken_by(negotiate, EVERY_CLASS)) == {sop_class for sop_class, _, _ in claims}
    some = [*STORAGE_CLASSES[::40], *SERVICES, "1.2.840.10008.5.1.4.1.2.2.3"]
    assert accepted_by(negotiate, some) == {claim for claim in claims if claim[0] in some}
