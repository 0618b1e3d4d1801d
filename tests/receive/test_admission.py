from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.receive.admission import Caller, Rejection, admit, contains, lack_of_room, may_call
from dicom_node.settings import LimitsTable, PeerTable, Settings

TITLES = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", min_size=1, max_size=16)
SCANNER = PeerTable(ae_title="SCANNER", address="10.1.0.0/16")


def reason(*, called: str = "NODE", calling: str = "SCANNER", address: str = "10.1.2.3") -> int | None:
    decision = admit(Caller(calling, called, address), own_ae="NODE", peers=[SCANNER])
    return decision.reason if isinstance(decision, Rejection) else None


def test_a_known_peer_is_let_in() -> None:
    assert reason() is None


def test_blanks_around_titles_do_not_count() -> None:
    assert reason(called="NODE  ", calling=" SCANNER") is None


def test_a_wrong_called_title_is_reason_7() -> None:
    assert reason(called="OTHER") == 7


def test_an_unknown_calling_title_is_reason_3() -> None:
    assert reason(calling="STRANGER") == 3


def test_a_known_title_from_a_foreign_address_is_reason_3() -> None:
    assert reason(address="10.2.0.1") == 3


def test_title_and_address_of_different_peers_do_not_combine() -> None:
    peers = [SCANNER, PeerTable(ae_title="OTHER", address="192.168.0.0/24")]
    assert isinstance(admit(Caller("SCANNER", "N", "192.168.0.5"), own_ae="N", peers=peers), Rejection)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.200.3.4", "::1", "::ffff:127.0.0.1"])
def test_by_default_this_machine_may_send_under_any_title(address: str) -> None:
    assert isinstance(admit(Caller("ANY", "N", address), own_ae="N", peers=Settings().peers), PeerTable)


@given(st.ip_addresses().filter(lambda address: not address.is_loopback))
def test_by_default_no_other_machine_may_send(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None and mapped.is_loopback:
        return
    assert isinstance(admit(Caller("A", "N", str(address)), own_ae="N", peers=Settings().peers), Rejection)
    assert not may_call(str(address), Settings().peers)


@given(TITLES, TITLES)
def test_only_a_peers_own_title_opens_the_door(title: str, calling: str) -> None:
    peers = [PeerTable(ae_title=title, address="0.0.0.0/0")]
    decision = admit(Caller(calling, "N", "1.2.3.4"), own_ae="N", peers=peers)
    assert isinstance(decision, PeerTable) == (title == calling)


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_contains_agrees_with_the_prefix_bits(
    base: ipaddress.IPv4Address, prefix: int, address: ipaddress.IPv4Address
) -> None:
    same_prefix = int(base) >> (32 - prefix) == int(address) >> (32 - prefix)
    assert contains(f"{base}/{prefix}", str(address)) == same_prefix


@given(st.text(max_size=40))
def test_what_is_no_address_lies_in_no_network(text: str) -> None:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        assert not contains("0.0.0.0/0", text)
        assert not contains("::/0", text)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 1000))
def test_the_quota_is_never_exceeded(size: int, used: int, quota: int) -> None:
    limits = LimitsTable(spool_bytes=quota, free_bytes=0)
    assert (lack_of_room(size, spool_bytes=used, free_bytes=10_000, limits=limits) is None) == (used + size <= quota)


@given(st.integers(0, 1000), st.integers(0, 2000), st.integers(0, 1000))
def test_the_reserve_of_the_disk_is_never_touched(size: int, free: int, reserve: int) -> None:
    limits = LimitsTable(free_bytes=reserve)
    assert (lack_of_room(size, spool_bytes=0, free_bytes=free, limits=limits) is None) == (free - size >= reserve)
