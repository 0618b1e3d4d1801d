"""The store service: requests of known peers go to the desk part by part, and each request counts as an association.

The association bears the AE title of the ``[[peer]]``, so that a series which came over HTTP is quiet, is routed and is
sent back to "sender" like any other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID

from dicom_node.logs import get_logger
from dicom_node.receive.admission import Caller
from dicom_node.receive.associations import OpenAssociations
from dicom_node.receive.desk import StoreDesk
from dicom_node.receive.dicomweb.callers import Denial, Doorkeeper, WebCaller
from dicom_node.receive.dicomweb.connection import HttpAnswer, HttpConnection
from dicom_node.receive.dicomweb.file_form import ArrivingFile, FileMeta
from dicom_node.receive.dicomweb.outcome import DICOM_JSON, Outcome
from dicom_node.receive.dicomweb.parts import Parts
from dicom_node.receive.dicomweb.store_request import RequestRefused, StoreRequest, busy, read_store_request
from dicom_node.receive.messages import ReceivingMemory
from dicom_node.receive.occupancy import Occupancy
from dicom_node.receive.offered import TRANSFER_SYNTAXES
from dicom_node.receive.storing import SOP_CLASS_NOT_SUPPORTED, Answer, Arrival
from dicom_node.settings import PeerTable, Settings
from dicom_node.tls import PeerCertificate
from dicom_node.uids import IMAGE_CLASSES

log = get_logger("receive")
TRANSFER_SYNTAX_NOT_SUPPORTED: Final = 0xC122
"""Failure Reason "Referenced Transfer Syntax Not Supported" (PS3.18 Annex I.2.2)."""


@dataclass(frozen=True)
class Reach:
    """What the service shares with that of C-STORE.

    Attributes:
        desk: Takes the instances.
        associations: Where requests are on record.
        occupancy: How many of them there may be at the same time.
        memory: What all that arrive together may take.
        lack_of_room: What is lacking for any instance of a peer at all.
        on_denial: Told who was not let in, and why.
    """

    desk: StoreDesk
    associations: OpenAssociations
    occupancy: Occupancy
    memory: ReceivingMemory
    lack_of_room: Callable[[PeerTable], str | None]
    on_denial: Callable[[Caller, str], None]


class StoreService:
    """Answers store requests (PS3.18 10.5).

    Args:
        settings: ``[dicomweb]``, the peers and the limits.
        reach: What it shares with the service of C-STORE.

    Raises:
        SettingsError: A token's file cannot be used.
    """

    def __init__(self, settings: Settings, reach: Reach) -> None:
        self._settings = settings
        self._reach = reach
        self._doorkeeper = Doorkeeper(settings.peers)
        self._classes = frozenset({*IMAGE_CLASSES, *settings.node.storage_classes})

    def serve(
        self, connection: HttpConnection, address: str, *, over_tls: bool, certificate: PeerCertificate | None
    ) -> None:
        """Answer the requests of one connection until it ends.

        Args:
            connection: The connection.
            address: The IP address it comes from.
            over_tls: Whether it is a secure one.
            certificate: What the caller has shown; None where it showed nothing.
        """
        goes_on = True
        while goes_on:
            try:
                request = connection.next_request()
                if request is None:
                    return
                headers = {name.decode("ascii"): value.decode("latin-1") for name, value in request.headers}
                caller = WebCaller(address, headers.get("authorization", ""), over_tls, certificate)
                peer = self._admitted(caller)
                wanted = read_store_request(
                    request.method.decode("ascii"),
                    request.target.decode("latin-1"),
                    headers,
                    self._settings.dicomweb.prefix,
                )
                answer = self._store(connection, wanted, peer, address)
            except RequestRefused as refusal:
                log.warning("request refused", status=refusal.status, reason=refusal.message, address=address)
                answer = HttpAnswer(refusal.status, "text/plain", f"{refusal.message}\n".encode(), refusal.headers)
            goes_on = connection.answer(answer)

    def _admitted(self, caller: WebCaller) -> PeerTable:
        decision = self._doorkeeper.admit(caller)
        if not isinstance(decision, Denial):
            return decision
        log.warning("caller denied", reason=decision.message, address=caller.address)
        self._reach.on_denial(Caller("", "", caller.address), decision.message)
        if decision.status == 401:
            raise RequestRefused(401, "a token or certificate of this node's peers is required", _CHALLENGE)
        raise RequestRefused(decision.status, "this node does not know you")

    def _store(self, connection: HttpConnection, wanted: StoreRequest, peer: PeerTable, address: str) -> HttpAnswer:
        key, alive = object(), threading.current_thread().is_alive
        lack = self._reach.lack_of_room(peer)
        if lack is not None:
            raise busy(lack)
        rejection = self._reach.occupancy.enter(key, peer, alive)
        if rejection is not None:
            raise busy(rejection.message)
        self._reach.associations.begin(key, calling_ae=peer.ae_title, address=address, alive=alive)
        parts = Parts(
            wanted.boundary,
            lambda meta, file: self._store_part(key, meta, file, wanted, peer),
            self._settings.dicomweb.parts,
            self._settings.limits,
            self._reach.memory,
            lambda answer: self._reach.desk.refuse(answer, peer.ae_title),
        )
        try:
            return self._answer_to(connection, parts, peer, address)
        finally:
            parts.release()
            self._reach.associations.end(key)
            self._reach.occupancy.leave(key)

    def _answer_to(self, connection: HttpConnection, parts: Parts, peer: PeerTable, address: str) -> HttpAnswer:
        """The answer to a body; one that was cut short, or went beyond a limit, still says what was stored of it."""
        refusal: RequestRefused | None = None
        try:
            for piece in connection.body():
                parts.take(piece)
                if self._reach.desk.is_closed:
                    raise busy("the node is stopping; send again later")
            parts.finish()
        except RequestRefused as error:
            refusal = error
        outcome = parts.outcome
        log.info(
            "instances stored over HTTP",
            peer=peer.ae_title,
            address=address,
            stored=len(outcome.stored),
            refused=len(outcome.failed) + len(outcome.unnamed),
            ended=refusal.message if refusal else "whole",
        )
        if refusal is None:
            return _json(outcome.http_status, outcome)
        if not outcome.parts:
            raise refusal
        return HttpAnswer(refusal.status, DICOM_JSON, outcome.document(), refusal.headers)

    def _store_part(
        self, key: object, meta: FileMeta, file: ArrivingFile, wanted: StoreRequest, peer: PeerTable
    ) -> Answer:
        if meta.sop_class_uid not in self._classes:
            return self._refused(
                meta, peer, Answer(SOP_CLASS_NOT_SUPPORTED, f"SOP class {meta.sop_class_uid[:64]} is not taken")
            )
        if meta.transfer_syntax_uid not in TRANSFER_SYNTAXES:
            name = UID(meta.transfer_syntax_uid[:64]).name
            return self._refused(
                meta, peer, Answer(TRANSFER_SYNTAX_NOT_SUPPORTED, f"transfer syntax {name} is not taken")
            )
        return self._reach.desk.store(
            lambda: Arrival(
                sop_class_uid=meta.sop_class_uid,
                sop_instance_uid=meta.sop_instance_uid,
                abstract_syntax=meta.sop_class_uid,
                transfer_syntax_uid=meta.transfer_syntax_uid,
                encoded=file.encoded,
                study_instance_uid=wanted.study_instance_uid,
            ),
            lambda: self._reach.associations.on_record(key),
            peer,
            peer.ae_title,
        )

    def _refused(self, meta: FileMeta, peer: PeerTable, answer: Answer) -> Answer:
        log.warning(
            "instance refused",
            status=f"{answer.status:04X}",
            reason=answer.comment,
            SOPInstanceUID=meta.sop_instance_uid[:64],
        )
        return self._reach.desk.refuse(answer, peer.ae_title)


_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="dicom-node"'}


def _json(status: int, outcome: Outcome) -> HttpAnswer:
    return HttpAnswer(status, DICOM_JSON, outcome.document(), {})
