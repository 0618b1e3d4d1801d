"""Damaged PDUs end their own connection; the listener serves others and comes back to rest."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from tests.peers import Receiver, receiver, wait_until
from tests.robustness.listening import attack
from tests.robustness.wire import RELEASE_RQ, VERIFICATION, associate_rq, command, p_data, pdu

MOST_GROWTH = 64 * 2**20
ABORT_OF_NOBODY = pdu(0x07, b"\x00\x00\xf9\xf9")
NO_COMMAND_FIELD = p_data(1, 0x03, command(0x0030, 1, sop_class=VERIFICATION)[:30])
ACCEPTED_IN_TURN = pdu(0x02, associate_rq()[6:])
STRANGE = {
    "abort of nobody": ABORT_OF_NOBODY,
    "no command field": NO_COMMAND_FIELD,
    "acceptance": ACCEPTED_IN_TURN,
    "unknown command": p_data(1, 0x03, command(0x0FFF, 1, sop_class=VERIFICATION)),
    "empty fragment": pdu(0x04, struct.pack(">IB", 1, 1)),
    "no fragment": pdu(0x04, b""),
    "release with a tail": RELEASE_RQ[:2] + struct.pack(">I", 8) + bytes(8),
}


@pytest.mark.peer
@pytest.mark.slow
def test_a_listener_under_attack_serves_honest_peers_and_comes_to_rest() -> None:
    watch = attack(150, 7)
    assert watch.tally.findings == []
    assert watch.honest == 4
    assert watch.threads[1] <= watch.threads[0]
    assert watch.resident[1] - watch.resident[0] < MOST_GROWTH
    assert watch.tally.peak_bytes < 2**30


@pytest.fixture
def node(tmp_path: Path) -> object:
    with receiver(tmp_path) as started:
        yield started


@pytest.mark.parametrize("strange", list(STRANGE))
def test_a_pdu_that_means_nothing_ends_its_connection_and_no_thread(
    node: Receiver, strange: str, recwarn: pytest.WarningsRecorder
) -> None:
    with socket.create_connection(("127.0.0.1", node.listener.port), timeout=30) as peer:
        peer.sendall(associate_rq())
        assert peer.recv(1) == b"\x02"
        peer.sendall(STRANGE[strange])
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass
    assert wait_until(lambda: not node.listener._active_associations())


@pytest.mark.parametrize("request_", [ABORT_OF_NOBODY, pdu(0x01, b"\x00\x02" + associate_rq()[8:]), pdu(0x01, b"")])
def test_a_connection_without_a_request_holds_no_thread(node: Receiver, request_: bytes) -> None:
    """Not for the half minute that a request may take."""
    with socket.create_connection(("127.0.0.1", node.listener.port), timeout=30) as peer:
        peer.sendall(request_)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass
    assert wait_until(lambda: not node.listener._active_associations())
