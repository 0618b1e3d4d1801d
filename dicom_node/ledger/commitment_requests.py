"""What senders asked this node to commit to, until they have been told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.database import insert_or_nothing, reading
from dicom_node.storage_commitment import Reference


@dataclass(frozen=True)
class CommitmentRequest:
    """A request that has not been answered by a report yet.

    Attributes:
        transaction_uid: The sender's.
        calling_ae: Who asked, from which ``address``.
        references: What for.
        attempts: Reports that did not get through.
    """

    transaction_uid: str
    calling_ae: str
    address: str
    references: tuple[Reference, ...]
    attempts: int


class CommitmentRequests:
    """The ledger's view of what senders ask.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def take(
        self, transaction_uid: str, references: Sequence[Reference], *, calling_ae: str, address: str, now: float
    ) -> bool:
        """Record a request; False where this transaction of this sender is on record already."""
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
        with self._engine.begin() as connection:
            return bool(connection.execute(insert_or_nothing(connection, db.commitment_requests), row).rowcount)

    def claim_due(self, now: float, lease_seconds: float) -> CommitmentRequest | None:
        """The oldest request that is to be reported on now; nobody else gets it for as long as the lease lasts."""
        table = db.commitment_requests
        oldest = sa.select(table).where(table.c.next_at <= now).order_by(table.c.asked_at).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(oldest).one_or_none()
        if row is None:
            return None
        claim = (
            sa.update(table)
            .where(
                table.c.transaction_uid == row.transaction_uid,
                table.c.calling_ae == row.calling_ae,
                table.c.next_at == row.next_at,
            )
            .values(next_at=now + lease_seconds)
        )
        with self._engine.begin() as connection:
            if not connection.execute(claim).rowcount:
                return None  # another worker was quicker; the next look shows what is left
        references = tuple(Reference(*pair) for pair in row.references)
        return CommitmentRequest(row.transaction_uid, row.calling_ae, row.address, references, row.attempts)

    def note(self, request: CommitmentRequest, *, next_at: float | None, message: str | None) -> None:
        """Record what became of a report; None ends the request."""
        table = db.commitment_requests
        this = table.c.transaction_uid == request.transaction_uid, table.c.calling_ae == request.calling_ae
        values = {"attempts": request.attempts + 1, "next_at": next_at, "message": message}
        with self._engine.begin() as connection:
            connection.execute(sa.update(table).where(*this).values(values))
