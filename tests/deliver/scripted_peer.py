"""A storage peer that answers as a test says: statuses, broken connections, silence, forgotten instances."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from dicom_node.settings import DestinationTable
from tests.peers import destination

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
VERIFICATION = "1.2.840.10008.1.1"
ABORT = -1
HANG = -2


@dataclass
class ScriptedPeer:
    """What the peer does, and what it saw.

    Attributes:
        statuses: Answers to the C-STORE requests in turn; the last one repeats. ``ABORT`` breaks the association,
            ``HANG`` answers nothing.
        find_status: Final status of a C-FIND.
        lists: Whether C-FIND lists what was stored.
        received: SOP Instance UIDs of all C-STORE requests.
        kept: SOP Instance UIDs that were stored.
        queries: Number of C-FIND requests.
        leaves: Whether it breaks the association after each C-FIND, once it has answered.
    """

    destination: DestinationTable
    statuses: list[int] = field(default_factory=lambda: [0])
    find_status: int = 0
    lists: bool = True
    received: list[str] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    queries: int = 0
    leaves: bool = False
    released: threading.Event = field(default_factory=threading.Event)

    def on_store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.received.append(uid)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == ABORT:
            event.assoc.abort()
            return 0
        if status == HANG:
            self.released.wait(30)
            return 0x0110
        if status == 0 or status >> 12 == 0xB:
            self.kept.add(uid)
        return status

    def on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.queries += 1
        uid = str(event.identifier.SOPInstanceUID)
        if self.find_status != 0:
            yield self.find_status, None
        elif self.lists and uid in self.kept:
            found = Dataset()
            found.QueryRetrieveLevel = "IMAGE"
            found.SOPInstanceUID = uid
            yield 0xFF00, found
        if self.leaves:
            threading.Timer(0.05, event.assoc.abort).start()


@contextmanager
def scripted_peer(
    *, sop_classes: Sequence[str] = (CT,), syntaxes: Sequence[str] = (), find: bool = True, **options: object
) -> Iterator[ScriptedPeer]:
    """A running scripted peer.

    Args:
        sop_classes: What it stores.
        syntaxes: Transfer syntaxes it accepts; pynetdicom's four plain ones by default.
        find: Whether it offers C-FIND.
        options: Of the destination.
    """
    entity = AE(ae_title="SCRIPTED")
    entity.add_supported_context(VERIFICATION)
    for sop_class in sop_classes:
        entity.add_supported_context(sop_class, *([list(syntaxes)] if syntaxes else []))
    if find:
        entity.add_supported_context(STUDY_ROOT_FIND)
    peer = ScriptedPeer(destination("scripted", "SCRIPTED", 1))
    handlers = [(evt.EVT_C_STORE, peer.on_store), (evt.EVT_C_FIND, peer.on_find)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.destination = destination("scripted", "SCRIPTED", server.server_address[1], **options)
    try:
        yield peer
    finally:
        peer.released.set()
        entity.shutdown()
