"""The DICOM listener: C-ECHO and C-STORE over pynetdicom, for one home."""

from __future__ import annotations

import fcntl
import os
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import cast
from uuid import uuid4

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import SettingsError, UsageError
from dicom_node.ledger.audit_facts import application
from dicom_node.ledger.intake import Intake
from dicom_node.logs import get_logger
from dicom_node.receive.admission import (
    CALLING_AE_TITLE_NOT_RECOGNISED,
    Caller,
    Rejection,
    admit,
    congestion,
)
from dicom_node.receive.alerts import Alerts
from dicom_node.receive.associations import OpenAssociations
from dicom_node.receive.commitment import CommitmentDesk
from dicom_node.receive.connection import end_associations, guard_connection, guarded
from dicom_node.receive.counting import ReceptionCounts
from dicom_node.receive.desk import StoreDesk
from dicom_node.receive.dicomweb.server import StoreServer
from dicom_node.receive.dicomweb.service import Reach, StoreService
from dicom_node.receive.indigestion import survive_pdus
from dicom_node.receive.messages import receiving_memory
from dicom_node.receive.negotiation import caller_of, offer_what_may_be_stored, proposed_classes
from dicom_node.receive.occupancy import Occupancy
from dicom_node.receive.offered import application_entity
from dicom_node.receive.promptness import make_prompt
from dicom_node.receive.renewal import Renewed, renewed_context
from dicom_node.receive.server import ConnectionGate, GatedServer
from dicom_node.receive.spool import Spool
from dicom_node.receive.store_exchange import exchange_directly
from dicom_node.receive.storing import PROCESSING_FAILURE, Answer, Arrival, Reception
from dicom_node.receive.uid_checks import remember_uid_checks
from dicom_node.settings import PeerTable, Settings
from dicom_node.uids import (
    VERIFICATION,
)

log = get_logger("receive")

_SETTLE_SECONDS = 1.0
ANSWER_SECONDS = 2.0
"""How long the answer to the last C-STORE may take to leave before a stop aborts its association."""


class Listener:
    """Receives instances for one home.

    Args:
        settings: Who we are, who may send, how much.
        intake: The ledger's view of reception.
        port: Port to bind instead of ``[node] port``; 0 for any free one.
        now: The clock, in seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        *,
        port: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._wanted_port = settings.node.port if port is None else port
        self._now = now
        remember_uid_checks()
        self._ae = application_entity(settings)
        self._servers: list[GatedServer] = []
        self._occupancy = Occupancy(settings.limits)
        self._memory = receiving_memory(settings.limits)
        self._lock_descriptor: int | None = None
        self._umask: int | None = None
        self._stopping = threading.Event()
        self._counts = ReceptionCounts(settings)
        self._alerts = Alerts()
        self._associations: OpenAssociations
        self._reception: Reception
        self._desk: StoreDesk
        self._store_server: StoreServer | None = None

    @property
    def port(self) -> int:
        """The bound port: the plain one where it is open, else the TLS port."""
        if not self._servers:
            raise UsageError("the listener is not started; call start() first")
        return int(self._servers[0].server_address[1])

    @property
    def tls_port(self) -> int:
        """The bound port that speaks TLS."""
        if not self._servers or self._servers[-1].ssl_context is None:
            raise UsageError("the listener speaks no TLS; set the table [tls] and call start() first")
        return int(self._servers[-1].server_address[1])

    @property
    def dicomweb_port(self) -> int:
        """The bound port that takes instances by STOW-RS."""
        if self._store_server is None:
            raise UsageError("the listener speaks no DICOMweb; set [dicomweb] port and call start() first")
        return self._store_server.port

    def start(self) -> None:
        """Take the home, tidy up what a killed listener left, and listen; returns once the port is bound.

        Raises:
            UsageError: Another listener serves this home.
            SettingsError: The address and port cannot be bound.
        """
        home = self._settings.node.home
        self._umask = os.umask(0o077)
        try:
            identity = self._take_home(home)
            spool = Spool(home / "spool")
            swept = spool.sweep()
            closed = self._intake.close_associations_of(identity, self._now())
            self._associations = OpenAssociations(self._intake, identity, self._now)
            self._reception = Reception(spool, self._intake, self._settings.limits, self._now)
            self._desk = StoreDesk(self._reception, self._counts)
            self._bind()
        except BaseException:
            self._leave_home()
            raise
        self._tell(started=True)
        self._stopping.clear()
        threading.Thread(target=self._settle, name="settle-associations", daemon=True).start()
        log.info(
            "listening",
            ae_title=self._settings.node.ae_title,
            address=self._settings.node.bind,
            ports=[server.server_address[1] for server in self._servers],
            dicomweb_port=self._store_server.port if self._store_server else None,
            swept_files=swept,
            closed_associations=closed,
        )

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Stop accepting, let what is under way finish, then end what is left.

        Args:
            grace_seconds: How long open associations may go on. After that a further C-STORE is answered A700, the
                ones being written are finished, and the associations are aborted.
        """
        if not self._servers:
            return
        self._close_ports()
        deadline = time.monotonic() + grace_seconds
        while self._is_receiving() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._stopping.set()
        self._desk.close()
        _let_answer(self._active_associations())
        end_associations(self._active_associations())
        if self._store_server is not None:
            self._store_server.end_connections()
        self._associations.settle()
        self._counts.report(self._intake, self._now(), at_once=True)
        self._alerts.report(self._intake, self._now(), at_once=True)
        self._tell(started=False)
        self._servers, self._store_server = [], None
        self._leave_home()
        log.info("stopped listening")

    def _tell(self, *, started: bool) -> None:
        """Tell the audit trail that the listener starts or stops; a ledger that is busy keeps nobody from either."""
        try:
            self._intake.tell(self._now(), application("listener", started=started))
        except SQLAlchemyError as error:
            log.warning("start or stop not in the audit trail", error=type(error).__name__)

    def _bind(self) -> None:
        """Open the plain port, the TLS port or both; where one cannot be opened the other is closed again."""
        tls, any_port = self._settings.tls, self._wanted_port == 0
        ports: list[tuple[int, Renewed[ssl.SSLContext] | None]] = []
        if tls is None or tls.plain:
            ports.append((self._wanted_port, None))
        if tls is not None:
            ports.append((0 if any_port else tls.port, renewed_context(tls)))
        gate = ConnectionGate(self._settings)
        try:
            for port, context in ports:
                self._servers.append(self._listen(port, context, gate))
            self._store_server = self._listen_for_dicomweb(gate)
        except BaseException:
            self._close_ports()
            self._servers = []
            raise

    def _listen(self, port: int, context: Renewed[ssl.SSLContext] | None, gate: ConnectionGate) -> GatedServer:
        address = (self._settings.node.bind, port)
        desk = CommitmentDesk(self._intake.commitments, self._intake.commitment_requests, self._settings, self._now)
        handlers = [
            (evt.EVT_CONN_OPEN, self._on_connected),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ESTABLISHED, self._on_established),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_EVENT_REPORT, desk.on_report),
            (evt.EVT_N_ACTION, desk.on_request),
            *((ending, self._on_end) for ending in (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)),
        ]
        try:
            server = self._ae.make_server(
                address,
                ssl_context=context.current() if context else None,
                renewed=context,
                evt_handlers=handlers,
                server_class=GatedServer,
                gate=gate,
                handshake_seconds=self._settings.limits.negotiation_seconds,
                on_failure=self._alerts.handshake_failed,
            )
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {address[0]} port {port}: {error.strerror}; "
                "change [node] bind or port, or [tls] port"
            ) from error
        self._ae._servers.append(server)  # as start_server does, which knows no server class but its own
        threading.Thread(target=server.serve_forever, name=f"listener-{port}", daemon=True).start()
        return cast(GatedServer, server)

    def _listen_for_dicomweb(self, gate: ConnectionGate) -> StoreServer | None:
        port = self._settings.dicomweb.port
        if port is None:
            return None
        reach = Reach(
            self._desk,
            self._associations,
            self._occupancy,
            self._memory,
            self._reception.lack_of_room,
            self._alerts.association_refused,
        )
        server = StoreServer(
            self._settings,
            StoreService(self._settings, reach),
            gate,
            0 if self._wanted_port == 0 else port,
            self._alerts.handshake_failed,
        )
        server.start()
        return server

    def _close_ports(self) -> None:
        for server in self._servers:
            server.shutdown()
        if self._store_server is not None:
            self._store_server.stop_accepting()

    def _is_receiving(self) -> bool:
        return bool(self._active_associations()) or (self._store_server is not None and self._store_server.is_serving)

    def _active_associations(self) -> list[Association]:
        return [association for server in self._servers for association in server.active_associations]

    def _on_connected(self, event: evt.Event) -> None:
        guard_connection(event.assoc, self._settings.limits, self._memory)
        make_prompt(event.assoc)
        survive_pdus(event.assoc)

    def _on_requested(self, event: evt.Event) -> None:
        caller: Caller | None = None
        try:
            caller = caller_of(event.assoc)
            decision = self._decide(event.assoc, caller)
        except Exception:  # pynetdicom would swallow it and let the peer in
            log.exception("admission failed", address=event.assoc.requestor.address)
            decision = Rejection(CALLING_AE_TITLE_NOT_RECOGNISED, "internal error while deciding; see the log")
        if not isinstance(decision, Rejection):
            return
        log.warning("association rejected", reason=decision.message, **(vars(caller) if caller else {}))
        self._counts.count_rejection(decision.reason)
        if caller is not None and decision.is_of_a_stranger:
            self._alerts.association_refused(caller, decision.message)
        event.assoc.acse.send_reject(decision.result, decision.source, decision.reason)
        event.assoc.kill()

    def _decide(self, association: Association, caller: Caller) -> PeerTable | Rejection:
        decision = admit(caller, own_ae=self._settings.node.ae_title, peers=self._settings.peers)
        if isinstance(decision, Rejection):
            return decision
        if proposed_classes(association) - {VERIFICATION}:
            lack = self._reception.lack_of_room(decision)
            if lack is not None:
                return congestion(lack)
        offer_what_may_be_stored(association, decision)
        return self._occupancy.enter(association, decision, association.is_alive) or decision

    def _on_established(self, event: evt.Event) -> None:
        requestor = event.assoc.requestor
        self._associations.begin(
            event.assoc, calling_ae=requestor.ae_title, address=requestor.address, alive=event.assoc.is_alive
        )
        exchange_directly(event.assoc, self._store)
        log.info("association opened", calling_ae=requestor.ae_title, address=requestor.address)

    def _on_end(self, event: evt.Event) -> None:
        self._associations.end(event.assoc)
        self._occupancy.leave(event.assoc)
        guarded(event.assoc).guard.release()

    def _on_echo(self, event: evt.Event) -> int:
        log.info("echo", calling_ae=event.assoc.requestor.ae_title, address=event.assoc.requestor.address)
        return 0x0000

    def _on_store(self, event: evt.Event) -> Dataset:
        return _response(self._take(event.assoc, lambda: _arrival(event)))

    def _store(self, association: Association, arrival: Arrival) -> Answer:
        return self._take(association, lambda: arrival)

    def _take(self, association: Association, read: Callable[[], Arrival]) -> Answer:
        with guarded(association).storing():
            peer = self._occupancy.peer_of(association)
            if peer is None:  # aborted while its last image came in; nobody's quota or classes would hold for it
                return Answer(PROCESSING_FAILURE, "the association has ended")
            return self._desk.store(
                read,
                lambda: self._associations.on_record(association),
                peer,
                association.requestor.ae_title,
            )

    def _settle(self) -> None:
        while not self._stopping.wait(_SETTLE_SECONDS):
            self._associations.settle()
            self._counts.report(self._intake, self._now())
            self._alerts.report(self._intake, self._now())

    def _take_home(self, home: Path) -> str:
        """Lock the home for this listener alone; returns the name under which the ledger knows it.

        The name lies in the lock file, so that a restart (under another host name or port too) finds what it left open.
        """
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / "listener.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise UsageError(f"another listener serves {home}; stop it or set another [node] home") from error
        self._lock_descriptor = descriptor
        name = os.read(descriptor, 64).decode("ascii", "replace").strip()
        if len(name) != len(str(uuid4())):
            name = str(uuid4())
            os.pwrite(descriptor, name.encode(), 0)
            os.ftruncate(descriptor, len(name))
            os.fsync(descriptor)
        return name

    def _leave_home(self) -> None:
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None
        if self._umask is not None:
            os.umask(self._umask)
            self._umask = None


def _let_answer(associations: Sequence[Association]) -> None:
    """Wait, at most ANSWER_SECONDS, until what was stored has been answered: its sender need not send it again.

    pynetdicom hands an answer over only after the handler has returned, and its own thread sends it.
    """
    if not associations:
        return
    deadline = time.monotonic() + ANSWER_SECONDS
    time.sleep(0.1)
    while time.monotonic() < deadline and not all(one.dul.to_provider_queue.empty() for one in associations):
        time.sleep(0.02)
    time.sleep(0.1)


def _arrival(event: evt.Event) -> Arrival:
    request, context = cast(C_STORE, event.request), event.context
    return Arrival(
        sop_class_uid=str(request.AffectedSOPClassUID),
        sop_instance_uid=str(request.AffectedSOPInstanceUID),
        abstract_syntax=str(context.abstract_syntax),
        transfer_syntax_uid=str(context.transfer_syntax),
        encoded=cast(
            BytesIO, request.DataSet
        ).getvalue(),  # shares the receive buffer: no copy of a large object is made
    )


def _response(answer: Answer) -> Dataset:
    response = Dataset()
    response.Status = answer.status
    if answer.comment:
        response.ErrorComment = answer.error_comment
    return response
