"""Sends damaged PDUs to a listener in a process of its own, and honest peers between them."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from random import Random

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from tests.peers import await_port, wait_until
from tests.phantoms import PhantomSpec, build
from tests.ports import free_port
from tests.robustness.damage import damaged
from tests.robustness.elements import body_offset
from tests.robustness.reading import ROOT, Tally
from tests.robustness.wire import CT_CLASS, associate_rq, conversation, damaged_pdus

REACTION_SECONDS = 10.0
"""A listener that does not react for longer hangs."""
REST_SECONDS = 90.0
"""pynetdicom keeps ended associations for half a minute."""
HONEST_EVERY = 50
WARM_UP = 300
LEFT_OPEN = 6


class Hang(Exception):
    """No reaction in time."""


def attack(inputs: int, seed: int, told: Callable[[str], None] = lambda _: None) -> Watch:
    """Send damaged conversations to a listener, and see whether it still serves honest ones and comes to rest.

    Args:
        inputs: How many connections.
        seed: The same seed gives the same bytes.
        told: Is called with every finding, and now and then with the progress.
    """
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        log = Path(folder) / "log"
        with listening(Path(folder) / "home", port, log) as process:
            watch = Watch(process, port, seed, told).run(inputs)
        for lines in log.read_text(errors="replace").split("Traceback (most recent call last)")[1:]:
            watch.find("crash", -1, f"raised in the listener: {lines[:3000]}")
        return watch


@contextmanager
def listening(home: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        command = [sys.executable, "-m", "tests.receive.serve_listener", str(home), str(port), str(os.getpid())]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        try:
            await_port(port, process, 120.0)
            yield process
        finally:
            process.kill()
            process.wait()


class Watch:
    """One listener under attack.

    Attributes:
        tally: What became of the connections; an honest peer that was not served counts as a crash.
        honest: How many honest peers were served.
        threads: Of the listener after the warm-up, and at the end when all connections were closed.
        resident: Bytes of the listener at the same moments.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, seed: int, told: Callable[[str], None]) -> None:
        self.tally = Tally("listener")
        self.honest = 0
        self.threads = (0, 0)
        self.resident = (0, 0)
        self._process, self._port, self._seed, self._told = process, port, seed, told
        self._open: deque[socket.socket] = deque()
        self._image = build(PhantomSpec(slices=1, rows=16, columns=12)).datasets[0]

    def run(self, inputs: int) -> Watch:
        """Attack, and watch."""
        before = self._rest(0)
        for number in range(inputs):
            if self._process.poll() is not None:
                self.find("crash", number, f"the listener ended with {self._process.returncode}")
                break
            self._one(number)
            if number % HONEST_EVERY == 0:
                self._serve_honest(number)
            if number == min(WARM_UP, inputs // 2):
                before = self._rest(before[0])
            if number % 1000 == 999:
                self._told(f"listener: {number + 1} of {inputs}")
        self._serve_honest(inputs)
        after = self._rest(before[0])
        self.threads, self.resident = (before[0], after[0]), (before[1], after[1])
        self.tally.peak_bytes = status(self._process.pid, "VmHWM") * 1024
        return self

    def _one(self, number: int) -> None:
        chance = Random(f"{self._seed}/{number}")
        try:
            answered = self._converse(chance)
        except (Hang, TimeoutError) as hang:
            self.find("hang", number, str(hang))
        else:
            self.tally.counts["taken" if answered else "refused"] += 1

    def _converse(self, chance: Random) -> bool:
        """One connection; whether it was answered other than by an abort, a rejection or the end of the connection."""
        while len(self._open) > LEFT_OPEN:
            self._open.popleft().close()
        peer = socket.create_connection(("127.0.0.1", self._port), timeout=REACTION_SECONDS)
        self._open.append(peer)
        answered = False
        with suppress(ConnectionError):  # ended by the listener, as it should
            answered = self._talk(peer, chance)
            ending = chance.choice(("open", "reset", "close", "close", "half", "half", "half", "half"))
            if ending == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if ending == "half":
                answered = self._await_end(peer) or answered
            if ending == "open":
                return answered
        self._open.remove(peer)
        peer.close()
        return answered

    def _talk(self, peer: socket.socket, chance: Random) -> bool:
        stage = chance.random()
        if stage < 0.15:
            peer.sendall(chance.randbytes(chance.choice((0, 1, 5, 6, 7, 100, 5000))))
            return False
        request = associate_rq()
        if stage < 0.45:
            peer.sendall(damaged_pdus([request], chance))
            return False
        peer.sendall(request)
        if _receive(peer) != 0x02:
            return False
        image = self._encoded(chance)
        pdus = conversation(image, self._image.SOPInstanceUID.encode(), chance)
        peer.sendall(damaged_pdus(pdus, chance))
        return True

    def _encoded(self, chance: Random) -> bytes:
        content = BytesIO()
        self._image.save_as(content, enforce_file_format=True)
        whole = content.getvalue()
        return damaged(whole, chance)[1][body_offset(whole) :] if chance.random() < 0.5 else whole[body_offset(whole) :]

    def _await_end(self, peer: socket.socket) -> bool:
        """Say that nothing more comes, and wait for the listener to end the connection; whether it sent P-DATA."""
        with suppress(OSError):  # it has ended already
            peer.shutdown(socket.SHUT_WR)
        deadline, came = time.monotonic() + REACTION_SECONDS, b""
        while time.monotonic() < deadline:
            peer.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                piece = peer.recv(65536)
            except TimeoutError:
                break
            came += piece[:1]
            if not piece:
                return b"\x04" in came
        raise Hang(f"the connection was not ended within {REACTION_SECONDS:g} s of the peer's end")

    def _serve_honest(self, number: int) -> None:
        """A C-ECHO and a C-STORE of a new image have to succeed."""
        begun = time.monotonic()
        image = pydicom.dcmread(self._written())
        entity = AE(ae_title="HONEST")
        entity.add_requested_context("1.2.840.10008.1.1")
        entity.add_requested_context(CT_CLASS.decode(), ExplicitVRLittleEndian)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 3 * REACTION_SECONDS
        association = entity.associate("127.0.0.1", self._port, ae_title="DICOM_NODE")
        if not association.is_established:
            self.find("crash", number, "an honest peer got no association")
            return
        echo, store = association.send_c_echo(), association.send_c_store(image)
        association.release()
        statuses = echo.get("Status"), store.get("Status")
        if statuses != (0, 0):
            self.find("crash", number, f"an honest peer's C-ECHO and C-STORE were answered {statuses}")
        elif time.monotonic() - begun > REACTION_SECONDS:
            self.find("hang", number, f"an honest peer was served after {time.monotonic() - begun:.1f} s")
        else:
            self.honest += 1

    def _written(self) -> BytesIO:
        image, content = self._image.copy(), BytesIO()
        image.file_meta = self._image.file_meta
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(content, enforce_file_format=True)
        content.seek(0)
        return content

    def _rest(self, level: int) -> tuple[int, int]:
        """Threads and resident bytes once every connection is closed and the threads are back at a level."""
        while self._open:
            self._open.popleft().close()
        pid = self._process.pid
        wait_until(lambda: status(pid, "Threads") <= level, REST_SECONDS if level else 3.0)
        return status(pid, "Threads"), status(pid, "VmRSS") * 1024

    def find(self, result: str, number: int, detail: str) -> None:
        """Count a crash or a hang."""
        self.tally.counts[result] += 1
        self.tally.findings.append(f"listener {number} {result}: {detail}")
        self._told(self.tally.findings[-1])


def _receive(peer: socket.socket) -> int:
    """Kind of the next PDU; 0 where the connection ended."""
    try:
        header = peer.recv(6, socket.MSG_WAITALL)
        if len(header) < 6:
            return 0
        peer.recv(struct.unpack(">I", header[2:])[0], socket.MSG_WAITALL)
    except TimeoutError as error:
        raise Hang(f"no answer to a proper association request within {REACTION_SECONDS:g} s") from error
    return header[0]


def status(pid: int, name: str) -> int:
    """A number of ``/proc/PID/status`` (proc(5)); 0 where the process is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0
