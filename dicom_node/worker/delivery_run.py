"""Deliveries: each destination on its own, retried over hours by a chain of delayed workflows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from dicom_node.deliver.courier import SENDERS_AT_ONCE
from dicom_node.deliver.delivery import deliver_once
from dicom_node.engine import Engine
from dicom_node.errors import DeliveryRefused, TakenOver
from dicom_node.ledger.cases import Case, Cases
from dicom_node.ledger.deliveries import Deliveries, Delivery
from dicom_node.logs import get_logger
from dicom_node.receive.admission import contains
from dicom_node.settings import DEFAULT_PROFILE, SENDER, Destination, DestinationTable, Settings

_log = get_logger("worker")
WORKFLOW = "delivery"
DEFAULT_PORT = 104
BUSY_SECONDS = 5.0
"""Pause of a delivery to a sender that is getting the results of another case."""
_SETTLED = frozenset({"confirmed", "refused", "spared"})


class DeliveryRun:
    """Sends the results of cases and concludes the cases.

    Args:
        engine: Where the chain of attempts lives.
        cases: The cases on record.
        deliveries: What has to arrive where.
        settings: Destinations and their patience.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, engine: Engine, cases: Cases, deliveries: Deliveries, settings: Settings, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._cases = cases
        self._deliveries = deliveries
        self._settings = settings
        self._clock = clock
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    @property
    def queues(self) -> dict[str, int]:
        """One queue a destination, so that a slow one delays no other, and how many deliveries it runs at once.

        "sender" stands for many machines: one of them that hangs must not delay the others either.
        """
        return {
            **{queue_of(item.name): 1 for item in self._settings.destinations},
            queue_of(SENDER): SENDERS_AT_ONCE,
        }

    def begin(self, case_id: str, attempt: int, results: Sequence[Delivery]) -> None:
        """Within a case's workflow: put on record what has to be sent, and start each destination's chain."""
        planned = self._engine.step("plan delivery", self._plan, case_id, attempt, [vars(item) for item in results])
        if not planned:
            return
        for destination in sorted({item.destination for item in results}):
            self._enqueue(case_id, attempt, destination, 1, delay=0)
        if not results:
            self._engine.step("conclude", self._conclude, case_id, attempt)

    def run(self, case_id: str, attempt: int, destination: str, number: int) -> None:
        """One attempt at one destination, as a workflow of its own."""
        pause = self._engine.step("deliver", self._deliver, case_id, attempt, destination)
        if pause is not None:
            self._enqueue(case_id, attempt, destination, number + 1, delay=pause)

    def _enqueue(self, case_id: str, attempt: int, destination: str, number: int, *, delay: float) -> None:
        identity = f"{case_id}.{attempt}.{destination}.{number}"
        arguments = (case_id, attempt, destination, number)
        self._engine.enqueue(queue_of(destination), WORKFLOW, identity, *arguments, delay=delay)

    def _plan(self, case_id: str, attempt: int, results: list[dict[str, Any]]) -> bool:
        case = self._cases.get(case_id)
        if case.attempt != attempt:
            return False
        if self._make_anew(case, {item["destination"] for item in results}):
            return False
        self._deliveries.plan([Delivery(**{**item, "updated_at": self._clock()}) for item in results])
        return self._cases.advance(case_id, "delivering", self._clock(), attempt=attempt)

    def _make_anew(self, case: Case, served: AbstractSet[str]) -> bool:
        """Have a case run its steps again where a destination would get nothing; whether that is so."""
        unserved = sorted(set(case.destinations) - served)
        if not unserved:
            return False
        reason = f"there are no results for {', '.join(unserved)}: profiles have changed since the results were made"
        _log.warning("results are made anew", case=case.case_id[:12], reason=reason)
        if case.attempt < self._settings.limits.attempts:
            self._cases.next_attempt(case.case_id, self._clock(), reason, attempt=case.attempt)
        else:
            words = f"{reason}; retry the case"
            self._cases.advance(case.case_id, "held", self._clock(), words, attempt=case.attempt)
        return True

    def _deliver(self, case_id: str, attempt: int, destination: str) -> float | None:
        case = self._cases.get(case_id)
        if case.state != "delivering" or case.attempt != attempt:
            return None
        try:
            table = self.table_of(case, destination)
        except DeliveryRefused as refusal:
            self._give_up(self._deliveries, case_id, destination, refusal.message)
            self._conclude(case_id, attempt)
            return None
        try:
            with self._turn_at(table) as is_free:
                return self._deliver_claimed(case, table) if is_free else BUSY_SECONDS
        except TakenOver as error:  # this process froze, and another one has gone on with the delivery
            _log.warning("delivery given up", case=case_id[:12], destination=destination, reason=error.message)
            return None

    @contextmanager
    def _turn_at(self, table: Destination) -> Iterator[bool]:
        """Whether no other results are on their way to this sender while the block runs.

        Many senders are served at once, but each may take one association alone.
        """
        who = table.address if table.name == SENDER else None
        with self._lock:
            is_free = who is None or who not in self._busy
            if is_free and who is not None:
                self._busy.add(who)
        try:
            yield is_free
        finally:
            if is_free and who is not None:
                with self._lock:
                    self._busy.discard(who)

    def _deliver_claimed(self, case: Case, table: Destination) -> float | None:
        case_id, destination = case.case_id, table.name
        deliveries = self._deliveries.claimed(f"{case_id} to {destination}", self._settings.node.name)
        started = self._clock()
        state = deliver_once(table, deliveries, case_id, started, calling_ae=self._settings.node.ae_title)
        seconds = self._clock() - started
        self._cases.note_seconds(case_id, f"deliver {destination}", seconds, attempt=case.attempt)
        if state.outcome == "retry":
            return state.retry_after_seconds
        if state.outcome == "held":
            self._give_up(deliveries, case_id, destination, state.reason)
        self._conclude(case_id, case.attempt)
        return None

    def _give_up(self, deliveries: Deliveries, case_id: str, destination: str, reason: str) -> None:
        for delivery in deliveries.of_case(case_id, destination):
            if delivery.state not in _SETTLED:
                deliveries.update(replace(delivery, state="refused", message=reason, updated_at=self._clock()))

    def _conclude(self, case_id: str, attempt: int) -> None:
        deliveries = self._deliveries.of_case(case_id)
        if any(item.state not in _SETTLED for item in deliveries):
            return
        case = self._cases.get(case_id)
        if case.attempt != attempt:
            return
        if self._make_anew(case, {item.destination for item in deliveries}):
            return  # never done while a destination has got nothing
        refused = [item for item in deliveries if item.state == "refused"]
        if refused:
            reason = "; ".join(sorted({f"{item.destination}: {item.message}" for item in refused}))
            self._cases.advance(case_id, "held", self._clock(), f"not delivered: {reason}", attempt=attempt)
            _log.warning("case held", case=case_id[:12], reason=reason)
        else:
            self._cases.advance(case_id, "done", self._clock(), attempt=attempt)
            _log.info("case done", case=case_id[:12], deliveries=len(deliveries))

    def table_of(self, case: Case, destination: str) -> Destination:
        """The settings of a destination of a case.

        Raises:
            DeliveryRefused: The settings no longer name it, or the sender cannot be called.
        """
        if destination == SENDER:
            return sender_destination(self._settings, case.calling_ae, case.address)
        for table in self._settings.destinations:
            if table.name == destination:
                return table
        raise DeliveryRefused(f'the settings no longer name a destination "{destination}"')


def sender_destination(settings: Settings, calling_ae: str, address: str) -> DestinationTable:
    """The destination that stands for whoever sends to us: its AE title and address, at the port of its peer entry.

    Where several entries let the sender in, its own AE title counts before ``*``, then the narrowest network.

    Raises:
        DeliveryRefused: Its AE title cannot be called.
    """
    fitting = [
        peer for peer in settings.peers if peer.ae_title in {calling_ae, "*"} and contains(peer.address, address)
    ]
    fitting.sort(key=lambda peer: (peer.ae_title == "*", -ip_network(peer.address, strict=False).prefixlen))
    port, profile = (fitting[0].port, fitting[0].profile) if fitting else (DEFAULT_PORT, DEFAULT_PROFILE)
    over_tls, name = (fitting[0].over_tls, fitting[0].certificate_name) if fitting else (False, None)
    try:
        return DestinationTable(
            name=SENDER,
            ae_title=calling_ae,
            host=address,
            port=port,
            profile=profile,
            tls=over_tls,
            tls_name=name,
            credentials=settings.tls if over_tls else None,
        )
    except ValueError as error:
        raise DeliveryRefused(f"the sender's AE title {calling_ae!r} cannot be called") from error


def queue_of(destination: str) -> str:
    """Name of a destination's queue."""
    return f"deliver {destination}"
