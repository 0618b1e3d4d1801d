"""What senders asked this node to commit to, and whether they have been told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.database import insert_or_nothing, reading
from dicom_node.storage_commitment import Reference

Asked = Literal["new", "again", "conflict"]


@dataclass(frozen=True, order=True)
class Sender:
    """Who asked, from where."""

    calling_ae: str
    address: str


@dataclass(frozen=True)
class CommitmentRequest:
    """A request that has not been answered by a report yet.

    Attributes:
        transaction_uid: The sender's.
        sender: Who asked.
        references: What for.
        attempts: Reports that did not get through.
        leased_until: Until when nobody else reports on it, seconds since the epoch.
    """

    transaction_uid: str
    sender: Sender
    references: tuple[Reference, ...]
    attempts: int
    leased_until: float


class CommitmentRequests:
    """The ledger's view of what senders ask.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def take(
        self, transaction_uid: str, references: Sequence[Reference], *, calling_ae: str, address: str, now: float
    ) -> Asked:
        """Record a request.

        Returns:
            ``new``; ``again`` where the same instances were asked for under this UID: a report is due once more, as the
            sender may not have got the first; ``conflict`` where others were, and nothing is changed.
        """
        row = {
            "transaction_uid": transaction_uid,
            "calling_ae": calling_ae,
            "address": address,
            "references": [[item.sop_class_uid, item.sop_instance_uid] for item in references],
            "asked_at": now,
            "attempts": 0,
            "next_at": now,
            "message": None,
        }
        table = db.commitment_requests
        this = table.c.transaction_uid == transaction_uid, table.c.calling_ae == calling_ae
        with self._engine.begin() as connection:
            if connection.execute(insert_or_nothing(connection, table), row).rowcount:
                return "new"
            known = connection.execute(sa.select(table.c.references).where(*this)).scalar_one()
            if {Reference(*pair) for pair in known} != set(references):
                return "conflict"
            due = {"address": address, "attempts": 0, "next_at": now, "message": None}
            connection.execute(sa.update(table).where(*this).values(due))
        return "again"

    def senders_due(self, now: float) -> tuple[Sender, ...]:
        """Who is to be told something now, the longest due first."""
        table = db.commitment_requests
        statement = (
            sa.select(table.c.calling_ae, table.c.address)
            .where(table.c.next_at <= now)
            .group_by(table.c.calling_ae, table.c.address)
            .order_by(sa.func.min(table.c.next_at))
        )
        with reading(self._engine) as connection:
            return tuple(Sender(*row) for row in connection.execute(statement))

    def claim_due(self, sender: Sender, now: float, lease_seconds: float) -> CommitmentRequest | None:
        """The oldest request of a sender that is to be reported on now; nobody else gets it while the lease lasts."""
        table = db.commitment_requests
        oldest = sa.select(table).where(*_due(sender, now)).order_by(table.c.asked_at).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(oldest).one_or_none()
        if row is None:
            return None
        leased_until = now + lease_seconds
        claim = (
            sa.update(table)
            .where(
                table.c.transaction_uid == row.transaction_uid,
                table.c.calling_ae == row.calling_ae,
                table.c.next_at == row.next_at,
            )
            .values(next_at=leased_until)
        )
        with self._engine.begin() as connection:
            if not connection.execute(claim).rowcount:
                return None  # another worker was quicker; the next look shows what is left
        references = tuple(Reference(*pair) for pair in row.references)
        return CommitmentRequest(row.transaction_uid, sender, references, row.attempts, leased_until)

    def renew(self, request: CommitmentRequest, leased_until: float) -> CommitmentRequest:
        """Keep others from a request for longer; it stays as it is where it was asked again or claimed meanwhile."""
        with self._engine.begin() as connection:
            renewed = connection.execute(
                sa.update(db.commitment_requests).where(*_held(request)).values(next_at=leased_until)
            )
        return replace(request, leased_until=leased_until) if renewed.rowcount else request

    def note(self, request: CommitmentRequest, *, next_at: float | None, message: str | None) -> None:
        """Record what became of a report; None ends the request. One that was asked again meanwhile stays due."""
        values = {"attempts": request.attempts + 1, "next_at": next_at, "message": message}
        with self._engine.begin() as connection:
            connection.execute(sa.update(db.commitment_requests).where(*_held(request)).values(values))

    def postpone(self, sender: Sender, now: float, until: float) -> None:
        """Let whatever is due to a sender wait: it cannot be reached now; costs no attempt."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(db.commitment_requests).where(*_due(sender, now)).values(next_at=until))


def _due(sender: Sender, now: float) -> tuple[sa.ColumnElement[bool], ...]:
    table = db.commitment_requests
    return table.c.calling_ae == sender.calling_ae, table.c.address == sender.address, table.c.next_at <= now


def _held(request: CommitmentRequest) -> tuple[sa.ColumnElement[bool], ...]:
    table = db.commitment_requests
    return (
        table.c.transaction_uid == request.transaction_uid,
        table.c.calling_ae == request.sender.calling_ae,
        table.c.next_at == request.leased_until,
    )
