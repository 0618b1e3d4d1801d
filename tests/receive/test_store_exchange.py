"""C-STORE over the wire, cut in every way PS3.8 allows and some that it forbids: stored byte for byte, or aborted."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.association import Association

from dicom_node.receive.listener import Listener
from dicom_node.receive.storing import Answer, Arrival
from tests.peers import Receiver, receiver, wait_until
from tests.receive.desk import arrival_of
from tests.robustness.wire import CT_CLASS, RELEASE_RQ, VERIFICATION, associate_rq, command, p_data, pdu

pytestmark = pytest.mark.peer
CONTEXT = 3
COMMAND, LAST = 0x01, 0x02


class Sender:
    """A peer that has an association, and writes its PDUs by hand."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.write(associate_rq())
        assert self.read()[0] == 0x02
        self.echo()  # once this is answered the association has begun on the other side too

    def write(self, *pdus: bytes) -> None:
        self._connection.sendall(b"".join(pdus))

    def read(self) -> tuple[int, bytes]:
        """The type and the variable field of the next PDU."""
        kind, length = struct.unpack(">BxL", self._exactly(6))
        return kind, self._exactly(length)

    def status(self) -> int:
        """The status of the answer that comes next."""
        kind, body = self.read()
        assert kind == 0x04
        elements, position = body[6:], 0
        while position < len(elements):
            _, number, length = struct.unpack_from("<HHI", elements, position)
            if number == 0x0900:
                return int(struct.unpack_from("<H", elements, position + 8)[0])
            position += 8 + length
        raise AssertionError("an answer without a status")

    def echo(self) -> None:
        self.write(p_data(1, 0x03, command(0x0030, 1, sop_class=VERIFICATION)))
        assert self.status() == 0x0000

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            piece = self._connection.recv(count - len(content))
            assert piece, "the connection was closed"
            content += piece
        return content


@contextmanager
def sending_to(node: Receiver) -> Iterator[Sender]:
    with socket.create_connection(("127.0.0.1", node.listener.port), timeout=30) as connection:
        yield Sender(connection)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of messages that pynetdicom served itself."""
    kinds: list[str] = []
    serve = Association._serve_request

    def noted(association: Association, message: Any, context_id: int) -> None:
        kinds.append(type(message).__name__)
        serve(association, message, context_id)

    monkeypatch.setattr(Association, "_serve_request", noted)
    return kinds


@pytest.fixture
def image(ct_files: list[Path]) -> Arrival:
    return arrival_of(ct_files[0])


def request(image: Arrival) -> bytes:
    return command(0x0001, 7, sop_class=CT_CLASS, instance=image.sop_instance_uid.encode(), data_set=True)


def item(header: int, content: bytes, context: int = CONTEXT) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context, header) + content


def in_pieces(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def as_one(encoded: bytes) -> list[bytes]:
    return [pdu(0x04, item(LAST, encoded))]


def as_many(encoded: bytes) -> list[bytes]:
    return [*(pdu(0x04, item(0, piece)) for piece in in_pieces(encoded, 1000)), pdu(0x04, item(LAST, b""))]


def as_items_of_one(encoded: bytes) -> list[bytes]:
    return [pdu(0x04, b"".join(item(0, piece) for piece in in_pieces(encoded, 5001)) + item(LAST, b""))]


def among_empty_ones(encoded: bytes) -> list[bytes]:
    return [pdu(0x04, b""), pdu(0x04, item(0, b"")), *as_one(encoded)]


@pytest.mark.parametrize("cut", [as_one, as_many, as_items_of_one, among_empty_ones])
def test_a_data_set_is_stored_as_it_came_however_it_is_cut(
    node: Receiver, image: Arrival, served: list[str], cut: Any
) -> None:
    with sending_to(node) as sender:
        sender.write(p_data(CONTEXT, COMMAND | LAST, request(image)), *cut(image.encoded))
        assert sender.status() == 0x0000
    (stored,) = node.spooled
    assert arrival_of(stored).encoded == image.encoded
    assert served == ["C_ECHO"], "it took the long way"


def command_in_two(image: Arrival) -> list[bytes]:
    whole = request(image)
    first, second = p_data(CONTEXT, COMMAND, whole[:50]), p_data(CONTEXT, COMMAND | LAST, whole[50:])
    return [first, second, *as_one(image.encoded)]


def command_and_data_set_in_one(image: Arrival) -> list[bytes]:
    return [pdu(0x04, item(COMMAND | LAST, request(image)) + item(LAST, image.encoded))]


@pytest.mark.parametrize("messages", [command_in_two, command_and_data_set_in_one])
def test_what_is_not_plain_is_stored_by_the_library(
    node: Receiver, image: Arrival, served: list[str], messages: Any
) -> None:
    with sending_to(node) as sender:
        sender.write(*messages(image))
        assert sender.status() == 0x0000
    (stored,) = node.spooled
    assert arrival_of(stored).encoded == image.encoded
    assert served == ["C_ECHO", "C_STORE"]


@pytest.mark.parametrize(
    "wrong",
    [
        pdu(0x04, item(COMMAND | LAST, b"again")),
        pdu(0x04, item(LAST, b"of another context", context=1)),
        pdu(0x04, struct.pack(">LBB", 1000, CONTEXT, LAST) + b"shorter than it says"),
        pdu(0x04, struct.pack(">LBB", 1, CONTEXT, LAST)),
        pdu(0x04, b"\0\0"),
        pdu(0x04, item(LAST, b"whole") + item(0, b"and more")),
    ],
    ids=["a command", "another context", "an item too long", "an item too short", "no item", "behind the end"],
)
def test_what_has_no_place_in_a_data_set_aborts_its_association_alone(
    node: Receiver, image: Arrival, wrong: bytes
) -> None:
    with sending_to(node) as other:
        with sending_to(node) as sender:
            half = pdu(0x04, item(0, image.encoded[:1000]))
            sender.write(p_data(CONTEXT, COMMAND | LAST, request(image)), half, wrong)
            assert sender.read()[0] == 0x07  # A-ABORT
        assert node.spooled == []
        other.echo()


def test_a_release_in_the_middle_of_a_data_set_is_answered_and_nothing_is_stored(
    node: Receiver, image: Arrival
) -> None:
    with sending_to(node) as sender:
        half = pdu(0x04, item(0, image.encoded[:1000]))
        sender.write(p_data(CONTEXT, COMMAND | LAST, request(image)), half, RELEASE_RQ)
        assert sender.read()[0] == 0x06  # A-RELEASE-RP
    assert node.spooled == []


def test_what_does_not_wait_for_an_answer_gets_its_own_behind_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: Arrival
) -> None:
    def slow(*_: object) -> int:
        time.sleep(0.3)
        return 0x0000

    monkeypatch.setattr(Listener, "_on_echo", slow)
    with receiver(tmp_path) as node, sending_to(node) as sender:
        echo = p_data(1, 0x03, command(0x0030, 1, sop_class=VERIFICATION))
        sender.write(echo, p_data(CONTEXT, COMMAND | LAST, request(image)), *as_one(image.encoded))
        assert [sender.read()[1][4] for _ in range(2)] == [1, CONTEXT]
        sender.write(p_data(CONTEXT, COMMAND | LAST, request(image)), *as_one(image.encoded))
        assert sender.status() == 0x0000


def test_a_refusal_is_answered_and_the_next_image_is_stored(node: Receiver, image: Arrival) -> None:
    with sending_to(node) as sender:
        sender.write(p_data(CONTEXT, COMMAND | LAST, request(image)), *as_one(b"no data set"))
        assert sender.status() == 0xC000
        sender.write(p_data(CONTEXT, COMMAND | LAST, request(image)), *as_one(image.encoded))
        assert sender.status() == 0x0000


def plain(image: Arrival) -> list[bytes]:
    return [p_data(CONTEXT, COMMAND | LAST, request(image)), *as_one(image.encoded)]


@pytest.mark.parametrize("messages", [plain, command_in_two])
def test_a_peer_that_waits_for_its_answer_is_not_idle(tmp_path: Path, image: Arrival, messages: Any) -> None:
    with receiver(tmp_path, limits={"idle_seconds": 1.0}) as node, sending_to(node) as sender:

        def slow(*_: object) -> Answer:
            time.sleep(1.5)
            return Answer(0x0000)

        node.listener._reception.store = slow  # type: ignore[method-assign]
        sender.write(*messages(image))
        assert sender.status() == 0x0000
        sender.echo()


def test_a_peer_whose_link_is_slow_is_not_idle(tmp_path: Path, image: Arrival) -> None:
    """Its packets end in the middle of a PDU: there is always something to read of the next one."""
    pieces = in_pieces(image.encoded, len(image.encoded) // 8 + 1)
    stream = b"".join(pdu(0x04, item(LAST if piece is pieces[-1] else 0, piece)) for piece in pieces)
    with receiver(tmp_path, limits={"idle_seconds": 1.0}) as node, sending_to(node) as sender:
        sender.write(p_data(CONTEXT, COMMAND | LAST, request(image)), stream[:20])
        for packet in in_pieces(stream[20:], len(stream) // 8):
            time.sleep(0.25)
            sender.write(packet)
        assert sender.status() == 0x0000


def test_an_association_that_was_counted_out_stores_nothing(node: Receiver, image: Arrival) -> None:
    """Its threads end one after the other; without its peer it would have nobody's limits."""
    with sending_to(node) as sender:
        node.listener._occupancy.leave(node.listener._active_associations()[0])
        sender.write(p_data(CONTEXT, COMMAND | LAST, request(image)), *as_one(image.encoded))
        assert sender.status() == 0x0110
    assert node.spooled == []


def test_nothing_is_kept_of_a_data_set_that_will_not_be_whole(tmp_path: Path, image: Arrival) -> None:
    with receiver(tmp_path, limits={"idle_seconds": 1.0}) as node, sending_to(node) as sender:
        exchange = node.listener._active_associations()[0].dul._read_pdu_data.__self__
        half = pdu(0x04, item(0, image.encoded[:1000]))
        sender.write(p_data(CONTEXT, COMMAND | LAST, request(image)), half)
        assert wait_until(lambda: exchange._message is not None)
        assert sender.read()[0] == 0x07  # A-ABORT: the rest did not come
        assert wait_until(lambda: exchange._message is None)
