"""One attempt to bring the results of a case to a destination, recorded so that the next one goes on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dicom_node.deliver.attempt import UNFINISHED, Attempt
from dicom_node.deliver.courier import courier_to
from dicom_node.deliver.standing import Standing, standing_of
from dicom_node.errors import DeliveryFailed
from dicom_node.ledger.deliveries import Deliveries, Delivery, State
from dicom_node.logs import get_logger
from dicom_node.settings import Destination, DestinationTable
from dicom_node.storage_commitment import failure_in_words

log = get_logger("deliver")


@dataclass(frozen=True)
class DeliveryState:
    """Where the delivery of a case to a destination stands after an attempt.

    Attributes:
        outcome: ``confirmed`` (all results are there), ``retry`` (try again after ``retry_after_seconds``), or ``held``
            (a person has to look).
        reason: Why not confirmed, in words; empty when confirmed.
        retry_after_seconds: Pause before the next attempt; None unless ``retry``.
    """

    outcome: Literal["confirmed", "retry", "held"]
    reason: str = ""
    retry_after_seconds: float | None = None


def deliver_once(
    destination: Destination, deliveries: Deliveries, case_id: str, now: float, *, calling_ae: str
) -> DeliveryState:
    """Make one attempt.

    The attempt is on record before anything is sent. After a crash in its middle the next one therefore asks the
    destination (C-FIND, QIDO-RS) what it has and sends only the rest; results keep their UIDs, so nothing exists twice.

    Args:
        destination: Where to.
        deliveries: The ledger; the results were planned there.
        case_id: Whose results.
        now: Seconds since the epoch, for the record.
        calling_ae: Our AE title.

    Returns:
        The state, also when the destination failed; only a broken ledger raises.

    Raises:
        TakenOver: Another worker goes on with this delivery; nothing more was sent or recorded.
    """
    standing = settle_commitment(destination, deliveries, case_id, now)
    unfinished = [row for row in deliveries.of_case(case_id, destination.name) if row.state in UNFINISHED]
    rows = [row for row in unfinished if not standing.is_awaited(row)]
    if unfinished and not rows:
        return _wait(destination, standing, now)
    attempt = Attempt(destination, courier_to(destination, calling_ae), deliveries, now, calling_ae)
    ask_first = _to_ask_for(destination, rows, standing)
    begun = [attempt.record(row, row.state, row.message, attempts=row.attempts + 1) for row in rows]
    try:
        attempt.make(begun, ask_first)
    except DeliveryFailed as error:
        attempt.note_failure(begun, error)
    state = _state_after(destination, deliveries, case_id, now)
    log.info("delivery attempt", case=case_id, destination=destination.name, outcome=state.outcome, why=state.reason)
    return state


def _state_after(destination: Destination, deliveries: Deliveries, case_id: str, now: float) -> DeliveryState:
    """How the delivery goes on; what has used up its attempts is given up while reports for the rest are awaited."""
    standing = settle_commitment(destination, deliveries, case_id, now)
    rows = [row for row in deliveries.of_case(case_id, destination.name) if not standing.is_awaited(row)]
    state = delivery_state(destination, rows)
    if not standing.awaited or state.outcome == "retry":
        return state
    for row in rows:
        if row.state in UNFINISHED:
            deliveries.update(replace(row, state="refused", message=state.reason, updated_at=now))
    return _wait(destination, standing, now)


def _wait(destination: Destination, standing: Standing, now: float) -> DeliveryState:
    pause = standing.look_again_after(now, _patience(destination))
    return DeliveryState("retry", "waits for the destination's storage commitment", pause)


def delivery_state(destination: Destination, rows: Sequence[Delivery]) -> DeliveryState:
    """What the records of a case at a destination amount to.

    As long as one result may still get through, it is tried; a case is held when none may, or when every pause of
    ``retry_seconds`` has been used.
    """
    unfinished = [row for row in rows if row.state in UNFINISHED]
    refused = [row for row in rows if row.state == "refused"]
    reason = "; ".join(dict.fromkeys(row.message or row.state for row in (*refused, *unfinished)))
    if unfinished:
        attempts = max(row.attempts for row in unfinished)
        if attempts == 0:
            return DeliveryState("retry", reason, 0.0)
        if attempts <= len(destination.retry_seconds):
            return DeliveryState("retry", reason, destination.retry_seconds[attempts - 1])
        return DeliveryState("held", f"given up after {attempts} attempts: {reason}")
    return DeliveryState("held", reason) if refused else DeliveryState("confirmed")


def settle_commitment(destination: Destination, deliveries: Deliveries, case_id: str, now: float) -> Standing:
    """Put on record what a destination reported about its storage commitment; returns where the rest stands."""
    if destination.proof != "commitment":
        return Standing()
    rows = deliveries.of_case(case_id, destination.name)
    asked = deliveries.commitments.of_case(case_id, destination.name)
    standing = standing_of(rows, asked, now, _patience(destination))
    for row in rows:
        if row.sop_instance_uid in standing.committed:
            deliveries.update(replace(row, state="confirmed", message="committed to", updated_at=now))
        elif row.state == "stored" and standing.is_uncommitted(row):
            reason = failure_in_words((standing.uncommitted or {})[row.sop_instance_uid])
            message = f"the destination does not commit to it: {reason}"
            deliveries.update(replace(row, state="failed", message=message, updated_at=now))
    return standing


def _patience(destination: Destination) -> float:
    """Seconds that a report of storage commitment may take."""
    return destination.commitment_seconds if isinstance(destination, DestinationTable) else 0.0


def _to_ask_for(destination: Destination, rows: Sequence[Delivery], standing: Standing) -> dict[str, State]:
    """Instances that C-FIND is asked for before anything is sent again, and what their being listed makes of them.

    Where commitment is wanted, the query proves only what was reported on too late; anything else that is listed is
    stored, and commitment has yet to be asked for. What the destination does not commit to is sent again unasked: it
    may well be listed.
    """
    if destination.proof == "query":
        is_repeated = any(row.state != "waiting" or row.attempts > 0 for row in rows)
        return dict.fromkeys((row.sop_instance_uid for row in rows), "confirmed") if is_repeated else {}
    if destination.proof != "commitment":
        return {}
    sent: dict[str, State] = {
        row.sop_instance_uid: "stored"
        for row in rows
        if row.state == "failed" or (row.state == "waiting" and row.attempts > 0)
        if not standing.is_uncommitted(row)
    }
    return {**sent, **dict.fromkeys(standing.overdue, "confirmed")}
