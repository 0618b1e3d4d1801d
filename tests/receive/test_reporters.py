"""A report of storage commitment counts only when it comes from the destination that was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dicom_node.ledger.commitments import Commitment
from dicom_node.receive.admission import Caller
from dicom_node.receive.reporters import addresses_of, lack_of_origin
from dicom_node.settings import Settings, parse_settings
from dicom_node.tls import PeerCertificate

HOST = "pacs.hospital.example"
ASKED = Commitment("1.2.3", "case", "pacs", "PACS", 1000.0, host=HOST, instances=["1.2.9"])
CALLER = Caller("PACS ", "DICOM_NODE", "10.1.2.3")
ANYBODY = {"ae_title": "*", "address": "10.0.0.0/8"}
CERTIFICATE = PeerCertificate(frozenset({HOST}), "ab" * 32)
TLS = {"certificate": "c", "key": "k", "authorities": "a"}


def settings_of(peers: list[dict[str, Any]], **destination: Any) -> Settings:
    row = {"name": "pacs", "ae_title": "PACS", "host": HOST, "port": 104, **destination}
    return parse_settings({"peer": peers, "destination": [row], "tls": TLS}, origin="test")


def lack(caller: Caller, *peers: dict[str, Any], asked: Commitment = ASKED, **destination: Any) -> str:
    known = {HOST: frozenset({"10.1.2.3", "fd00::3"})}
    settings = settings_of([*peers, ANYBODY], **destination)
    return lack_of_origin(asked, caller, settings, resolve=lambda host: known.get(host, frozenset()))


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::3"])
def test_the_host_that_was_asked_may_report(address: str) -> None:
    assert lack(replace(CALLER, address=address)) == ""


def test_another_title_may_not() -> None:
    assert "somebody else was asked this: PACS" in lack(replace(CALLER, calling_ae="OTHER"))


def test_the_title_from_another_address_may_not_and_the_log_says_what_to_do() -> None:
    assert "add the address to reports_from" in lack(replace(CALLER, address="10.9.9.9"))


def test_further_addresses_are_a_setting() -> None:
    assert lack(replace(CALLER, address="10.9.9.9"), reports_from=["10.9.9.0/24"]) == ""


def test_who_was_asked_counts_even_when_the_settings_have_changed() -> None:
    moved = replace(ASKED, host="old.hospital.example")
    assert lack(replace(CALLER, address="10.9.9.9"), asked=moved) == ""  # its name means nothing any more
    assert lack(CALLER, asked=replace(ASKED, destination="gone")) == ""


def test_a_host_without_an_address_is_not_held_against_a_report() -> None:
    assert lack(CALLER, asked=replace(ASKED, host="nowhere.invalid")) == ""


def test_what_an_earlier_version_asked_is_held_against_the_settings() -> None:
    earlier = replace(ASKED, host=None, instances=None)
    assert lack(CALLER, asked=earlier) == ""
    assert lack(replace(CALLER, address="10.9.9.9"), asked=earlier) != ""


def test_the_entry_of_its_own_title_counts_not_the_one_for_anybody() -> None:
    elsewhere = {"ae_title": "PACS", "address": "10.1.2.4"}
    assert "correct its address" in lack(CALLER, elsewhere)


@pytest.mark.parametrize(
    ("over_tls", "certificate", "reason"),
    [
        (False, None, "has to call over TLS"),
        (True, PeerCertificate(frozenset({"scanner"}), "cd" * 32), "shows a certificate of"),
        (True, CERTIFICATE, ""),
    ],
)
def test_the_certificate_its_entry_asks_for_has_to_be_shown(
    over_tls: bool, certificate: PeerCertificate | None, reason: str
) -> None:
    own = {"ae_title": "PACS", "address": "10.0.0.0/8", "certificate_name": HOST}
    said = lack(replace(CALLER, over_tls=over_tls, certificate=certificate), own)
    assert (said == "", reason in said) == (reason == "", True)


@pytest.mark.parametrize(("tls", "taken"), [(True, True), (False, False)])
def test_a_certificate_of_its_name_is_as_good_as_its_address(tls: bool, taken: bool) -> None:
    caller = replace(CALLER, address="10.9.9.9", over_tls=True, certificate=CERTIFICATE)
    assert (lack(caller, tls=tls) == "") is taken


def test_names_are_resolved() -> None:
    assert addresses_of("127.0.0.1") == {"127.0.0.1"}
    assert addresses_of("no-such-host.invalid") == frozenset()
