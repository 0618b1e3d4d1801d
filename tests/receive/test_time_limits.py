"""Peers that are slow, silent, endless or many: they are ended, and meanwhile an honest sender is served."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from dicom_node.receive.connection import MAXIMUM_PDU
from dicom_node.receive.messages import MessageGuard, MessageRefused, ReceivingMemory
from dicom_node.settings import LimitsTable
from tests.peers import Receiver, receiver, wait_until
from tests.receive.calling import CT, associate

pytestmark = pytest.mark.peer
QUICK = {"negotiation_seconds": 2.0, "pdu_seconds": 2.0, "idle_seconds": 3.0, "instance_seconds": 4.0}


@contextmanager
def connected(node: Receiver) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", node.listener.port), timeout=30) as connection:
        yield connection


@contextmanager
def established(node: Receiver) -> Iterator[socket.socket]:
    """A connection over which an association was accepted, to be misused byte by byte."""
    with connected(node) as connection:
        connection.sendall(request())
        kind, length = struct.unpack(">BxL", exactly(connection, 6))
        exactly(connection, length)
        assert kind == 0x02
        yield connection


def request() -> bytes:
    """An A-ASSOCIATE-RQ for CT Image Storage, context 1."""
    context = build_context(CT, ExplicitVRLittleEndian)
    context.context_id = 1
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "SLOW", "DICOM_NODE"
    primitive.presentation_context_definition_list = [context]
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def exactly(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        piece = connection.recv(count - len(content))
        assert piece, "the connection was closed"
        content += piece
    return content


def p_data(*fragments: tuple[int, bytes]) -> bytes:
    """A P-DATA-TF PDU (PS3.8 9.3.5) of fragments of context 1: message control header and content."""
    items = b"".join(struct.pack(">LBB", len(content) + 2, 1, header) + content for header, content in fragments)
    return struct.pack(">BxL", 0x04, len(items)) + items


COMMAND = (
    bytes.fromhex("00000000 04000000 38000000 00000200 1a000000".replace(" ", ""))
    + CT.encode().ljust(26, b"\0")
    + bytes.fromhex(
        "00000001 02000000 0100 00001001 02000000 0100 00000007 02000000 0000 00000008 02000000 0000"
        " 00000010 08000000 312e322e332e3400".replace(" ", "")
    )
)
"""A C-STORE-RQ that announces a data set."""


def seconds_until_closed(connection: socket.socket, write: Callable[[], bytes], pause: float = 0.2) -> float:
    """Keep writing until the listener ends the connection; after how many seconds it did."""
    began = time.monotonic()
    connection.settimeout(pause)
    while time.monotonic() - began < 60:
        try:
            connection.sendall(write())
            if connection.recv(4096) == b"":
                return time.monotonic() - began
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began
    raise AssertionError("the connection is open after 60 s")


@contextmanager
def an_honest_sender(node: Receiver, files: list[Path]) -> Iterator[None]:
    """Sends a series while the block runs; it has to be stored at the end."""
    codes: list[int] = []
    sender = threading.Thread(target=lambda: codes.append(node.storescu(*files).returncode))
    sender.start()
    yield
    sender.join(timeout=100)
    assert codes == [0]
    assert len(node.spooled) == len(files)


def in_pieces(content: bytes) -> Callable[[], bytes]:
    pieces = iter(content)
    return lambda: bytes([next(pieces)])


def nothing() -> bytes:
    return b""


@pytest.mark.parametrize(
    "write",
    [nothing, in_pieces(request()), in_pieces(b"\x01\x00\x00\x10\x00\x00" + bytes(1000))],
    ids=["silence", "the request a byte at a time", "1 MiB a byte at a time"],
)
def test_a_request_has_to_come_whole_in_time(tmp_path: Path, ct_files: list[Path], write: Callable[[], bytes]) -> None:
    with receiver(tmp_path, limits=QUICK) as node, an_honest_sender(node, ct_files), connected(node) as connection:
        assert seconds_until_closed(connection, write) < 20


def test_a_pdu_has_to_come_whole_in_time(tmp_path: Path, ct_files: list[Path]) -> None:
    """A byte every 0.2 s: no pause is long, the whole is."""
    with receiver(tmp_path, limits=QUICK) as node, an_honest_sender(node, ct_files), established(node) as connection:
        write = in_pieces(p_data((0x03, COMMAND)) + bytes(1000))
        assert seconds_until_closed(connection, write) < 20


def test_an_association_that_is_never_released_is_ended(tmp_path: Path, ct_files: list[Path]) -> None:
    with receiver(tmp_path, limits=QUICK) as node, an_honest_sender(node, ct_files), established(node) as connection:
        assert seconds_until_closed(connection, nothing) < 20


def test_an_instance_has_to_come_whole_in_time(
    tmp_path: Path, ct_files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Every PDU comes at once, and the association is never idle, yet the data set never ends."""
    with receiver(tmp_path, limits=QUICK) as node, an_honest_sender(node, ct_files), established(node) as connection:
        connection.sendall(p_data((0x03, COMMAND)))
        assert seconds_until_closed(connection, lambda: p_data((0x00, bytes(2000))), pause=0.5) < 25
        assert_logged(capfd, "connection cut", "not complete after 4 s", "SLOW")


def test_a_pdu_longer_than_announced_ends_the_connection(tmp_path: Path, ct_files: list[Path]) -> None:
    with receiver(tmp_path) as node, an_honest_sender(node, ct_files), established(node) as connection:
        connection.sendall(struct.pack(">BxL", 0x04, MAXIMUM_PDU + 1))
        assert seconds_until_closed(connection, lambda: bytes(1000)) < 20


@pytest.mark.parametrize("fragment", [b"", b"x"], ids=["empty", "one byte"])
def test_a_flood_of_tiny_fragments_is_ended(
    tmp_path: Path, ct_files: list[Path], fragment: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with receiver(tmp_path) as node, an_honest_sender(node, ct_files), established(node) as connection:
        connection.sendall(p_data((0x03, COMMAND)))
        flood = p_data(*[(0x00, fragment)] * 500)
        assert seconds_until_closed(connection, lambda: flood, pause=0.05) < 40
        assert_logged(capfd, "fragments hold less than 128 bytes each")


def test_a_data_set_beyond_the_limit_is_ended_before_it_is_in_memory(
    tmp_path: Path, ct_files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    limits = {"instance_bytes": 4_000_000}
    with receiver(tmp_path, limits=limits) as node, an_honest_sender(node, ct_files), established(node) as connection:
        cut = next(one for one in node.listener._active_associations() if one.requestor.ae_title == "SLOW")
        connection.sendall(p_data((0x03, COMMAND)))
        assert seconds_until_closed(connection, lambda: p_data((0x00, bytes(100_000))), pause=0.01) < 40
        assert wait_until(lambda: node.listener._memory.held < 1_000_000)
        assert cut.dimse.message is None  # though the association lies in memory for a while
        assert_logged(capfd, "the data set exceeds 4000000 bytes")


def test_requests_without_waiting_for_answers_do_not_pile_up(tmp_path: Path, ct_files: list[Path]) -> None:
    """A peer that never reads an answer, and sends on: the listener stops reading from it."""
    with receiver(tmp_path, limits={"pdu_seconds": 5.0}) as node, established(node) as connection:
        began, go_on = threading.Event(), threading.Event()

        def slow(*_: object) -> object:
            began.set()
            go_on.wait(60)
            raise RuntimeError("enough")

        node.listener._reception.store = slow  # type: ignore[method-assign, assignment]
        connection.settimeout(1.0)
        message = p_data((0x03, COMMAND)) + p_data((0x02, bytes(900_000)))
        sent = 0
        with suppress(TimeoutError):
            for _ in range(100):
                sent += connection.send(message)
        assert began.is_set()
        server_side = node.listener._active_associations()[0]
        waiting = server_side.dimse.msg_queue.qsize()
        held = node.listener._memory.held
        go_on.set()
        assert waiting <= 1
        assert held <= 3 * 900_000
        assert sent < 50 * len(message)


def test_silent_connections_do_not_use_up_the_associations(tmp_path: Path, ct_files: list[Path]) -> None:
    with receiver(tmp_path, limits={"associations": 2}) as node:
        silent = [socket.create_connection(("127.0.0.1", node.listener.port)) for _ in range(10)]
        try:
            assert node.storescu(*ct_files).returncode == 0
        finally:
            for connection in silent:
                connection.close()


def test_connections_are_limited_and_come_free_again(
    tmp_path: Path, ct_files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with receiver(tmp_path, limits={"connections_per_address": 3}) as node:
        held = [socket.create_connection(("127.0.0.1", node.listener.port), timeout=10) for _ in range(3)]
        with connected(node) as fourth:
            assert fourth.recv(1) == b""
        with socket.create_connection(
            ("127.0.0.1", node.listener.port), timeout=10, source_address=("127.0.0.2", 0)
        ) as elsewhere:
            elsewhere.sendall(request())
            assert exactly(elsewhere, 1) == b"\x02"
        for connection in held:
            connection.close()
        assert wait_until(lambda: node.storescu(ct_files[0]).returncode == 0, seconds=60)
        assert_logged(capfd, "3 come from one address")


def test_strangers_hold_a_share_of_the_connections_alone(tmp_path: Path, ct_files: list[Path]) -> None:
    peers = [{"ae_title": "STORESCU", "address": "127.0.0.1"}]
    with receiver(tmp_path, limits={"connections": 16}, peer=peers) as node:
        strangers = [
            socket.create_connection(("127.0.0.1", node.listener.port), timeout=10, source_address=("127.0.0.9", 0))
            for _ in range(20)
        ]
        try:
            assert strangers[-1].recv(1) == b""
            assert node.storescu(*ct_files).returncode == 0
        finally:
            for connection in strangers:
                connection.close()


def test_a_stop_does_not_wait_for_those_who_stopped_in_the_middle(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with receiver(tmp_path) as node, established(node) as one, established(node) as other, connected(node) as silent:
        one.sendall(p_data((0x03, COMMAND))[:20])
        other.sendall(p_data((0x03, COMMAND))[:3])
        time.sleep(0.5)
        began = time.monotonic()
        node.listener.stop(grace_seconds=0.2)
        assert time.monotonic() - began < 30  # a PDU may take 120 s
        assert wait_until(lambda: set(threading.enumerate()) <= before, seconds=20)  # a request may take 30 s
        assert [connection.recv(1000)[:1] in {b"", b"\x07"} for connection in (one, other, silent)] == [True] * 3


def test_an_association_is_usable_after_all_of_that(tmp_path: Path) -> None:
    with receiver(tmp_path, limits=QUICK) as node:
        association = associate(node, ("1.2.840.10008.1.1", [ExplicitVRLittleEndian]))
        for _ in range(6):  # longer than idle_seconds in all, but never idle
            time.sleep(1.0)
            assert association.send_c_echo().Status == 0
        association.release()


class TestMessageGuard:
    """The counting alone, with a clock that stands still."""

    LIMITS = LimitsTable(instance_bytes=1000, instance_seconds=10.0)

    def guard(self, memory: ReceivingMemory | None = None) -> MessageGuard:
        self.seconds = 0.0
        return MessageGuard(self.LIMITS, memory or ReceivingMemory(10_000), lambda: self.seconds, lambda: True)

    @staticmethod
    def body(*fragments: tuple[int, bytes]) -> bytes:
        return p_data(*fragments)[6:]

    def test_each_message_is_counted_for_itself(self) -> None:
        guard = self.guard()
        for _ in range(5):
            guard.take(self.body((0x03, COMMAND), (0x00, bytes(500)), (0x02, bytes(500))))

    def test_a_byte_too_many_is_refused(self) -> None:
        guard = self.guard()
        guard.take(self.body((0x03, COMMAND), (0x00, bytes(1000))))
        with pytest.raises(MessageRefused, match="exceeds 1000 bytes"):
            guard.take(self.body((0x02, b"x")))

    def test_a_second_too_many_is_refused(self) -> None:
        guard = self.guard()
        guard.take(self.body((0x03, COMMAND)))
        self.seconds = 11.0
        with pytest.raises(MessageRefused, match="not complete after 10 s"):
            guard.take(self.body((0x02, b"x")))

    def test_empty_pdus_do_not_keep_half_a_message(self) -> None:
        guard = self.guard()
        guard.take(self.body((0x03, COMMAND), (0x00, bytes(500))))
        self.seconds = 11.0
        with pytest.raises(MessageRefused, match="not complete after 10 s"):
            guard.take(b"")

    def test_an_empty_pdu_long_after_a_message_is_let_through(self) -> None:
        guard = self.guard()
        guard.take(self.body((0x03, COMMAND)))
        self.seconds = 11.0
        guard.take(b"")

    def test_an_endless_command_is_refused(self) -> None:
        guard = self.guard()
        with pytest.raises(MessageRefused, match="command set exceeds"):
            guard.take(self.body((0x01, bytes(70_000))))

    def test_commands_without_data_sets_begin_a_message_each(self) -> None:
        guard = self.guard()
        for _ in range(2000):
            guard.take(self.body((0x03, COMMAND)))
            self.seconds += 1.0

    def test_all_associations_share_one_memory(self) -> None:
        memory = ReceivingMemory(1500)
        first, second = self.guard(memory), self.guard(memory)
        first.take(self.body((0x03, COMMAND), (0x02, bytes(1000))))
        with pytest.raises(MessageRefused, match="receiving_bytes"):
            second.take(self.body((0x03, COMMAND), (0x02, bytes(600))))
        first.release()
        second = self.guard(memory)
        second.take(self.body((0x03, COMMAND), (0x02, bytes(600))))

    def test_what_a_dead_association_held_is_taken_from_it(self) -> None:
        memory = ReceivingMemory(1000)
        assert memory.claim("dead", 900, lambda: False)
        assert memory.claim("alive", 900, lambda: True)
        assert memory.held == 900

    @pytest.mark.parametrize("body", [b"\x00", b"\x00\x00\x00\x01\x01\x03", b"\xff" * 40], ids=["cut", "short", "long"])
    def test_what_is_no_list_of_fragments_is_left_to_pynetdicom(self, body: bytes) -> None:
        self.guard().take(body)


def assert_logged(capfd: pytest.CaptureFixture[str], *words: str) -> None:
    said: list[str] = []

    def complete() -> bool:
        said.extend(capfd.readouterr())
        return all(word in "".join(said) for word in words)

    assert wait_until(complete), said
