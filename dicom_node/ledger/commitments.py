"""What destinations were asked to commit to, and what they reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.database import insert_or_nothing, reading
from dicom_node.storage_commitment import Report

Taken = Literal["taken", "repeated", "unknown", "foreign"]


@dataclass(frozen=True)
class Commitment:
    """One transaction of storage commitment (PS3.4 annex J).

    Attributes:
        ae_title: Who may report.
        asked_at: When it was put on record, before anything was sent; seconds since the epoch, as every time here.
        reported_at: None until a report came.
        committed: SOP Instance UIDs that the destination keeps.
        failed: Failure reason of the others, by SOP Instance UID.
        host: Where it was asked; None in what an earlier version recorded.
        instances: SOP Instance UIDs it was asked for; None in what an earlier version recorded.
        taken_at: When it answered the request with Success; None where no answer is known.
        refused_at: When it refused the request: its UID must not be used again (PS3.4 J.3.2.1.2).
    """

    transaction_uid: str
    case_id: str
    destination: str
    ae_title: str
    asked_at: float
    reported_at: float | None = None
    committed: Sequence[str] = ()
    failed: dict[str, int] | None = None
    host: str | None = None
    instances: Sequence[str] | None = None
    taken_at: float | None = None
    refused_at: float | None = None

    def concerns(self, sop_instance_uid: str) -> bool:
        """Whether an instance was asked for; of what an earlier version recorded only the report tells."""
        if self.instances is not None:
            return sop_instance_uid in self.instances
        return self.reported_at is None or sop_instance_uid in self.committed or sop_instance_uid in (self.failed or {})

    @property
    def is_open(self) -> bool:
        """Whether a report may still come."""
        return self.reported_at is None and self.refused_at is None


class Commitments:
    """The ledger's view of storage commitment.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def ask(self, asked: Commitment) -> bool:
        """Record a transaction; before the destination is asked, so that no report finds it missing.

        Returns:
            False where it is on record already: it is asked again.
        """
        row = {**vars(asked), "committed": list(asked.committed), "failed": asked.failed or {}}
        with self._engine.begin() as connection:
            return bool(connection.execute(insert_or_nothing(connection, db.commitments), row).rowcount)

    def note_taken(self, transaction_uid: str, now: float) -> None:
        """Note that the destination has taken a request: from now on its report is waited for."""
        self._note(transaction_uid, taken_at=now)

    def note_refused(self, transaction_uid: str, now: float) -> None:
        """Note that the destination has refused a request; it stays on record, so that its UID is not used again."""
        self._note(transaction_uid, refused_at=now)

    def forget(self, transaction_uid: str) -> None:
        """Drop a transaction that never left this node."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(db.commitments).where(db.commitments.c.transaction_uid == transaction_uid))

    def report(self, report: Report, ae_title: str, now: float) -> Taken:
        """Record a report.

        Args:
            report: What came.
            ae_title: Who sent it.
            now: Seconds since the epoch.

        Returns:
            ``taken``; ``repeated`` where there is one already, which is kept; ``unknown``: no such transaction;
            ``foreign``: somebody else was asked. Only ``taken`` changes something.
        """
        table = db.commitments
        this = table.c.transaction_uid == report.transaction_uid
        with self._engine.begin() as connection:
            row = connection.execute(sa.select(table).where(this).with_for_update()).one_or_none()
            if row is None:
                return "unknown"
            if row.ae_title != ae_title.strip():
                return "foreign"
            if row.reported_at is not None:
                return "repeated"
            failed = {reference.sop_instance_uid: reason for reference, reason in report.failed.items()}
            named = [reference.sop_instance_uid for reference in report.committed]
            committed = [uid for uid in named if uid not in failed]  # what it says both of is not safe there
            connection.execute(sa.update(table).where(this).values(reported_at=now, committed=committed, failed=failed))
        return "taken"

    def find(self, transaction_uid: str) -> Commitment | None:
        """A transaction, or None."""
        statement = sa.select(db.commitments).where(db.commitments.c.transaction_uid == transaction_uid)
        with reading(self._engine) as connection:
            row = connection.execute(statement).one_or_none()
        return Commitment(**row._mapping) if row else None

    def of_case(self, case_id: str, destination: str) -> tuple[Commitment, ...]:
        """Every transaction of a case at a destination, the latest first."""
        table = db.commitments
        statement = (
            sa.select(table)
            .where(table.c.case_id == case_id, table.c.destination == destination)
            .order_by(table.c.asked_at.desc(), table.c.transaction_uid)
        )
        with reading(self._engine) as connection:
            return tuple(Commitment(**row._mapping) for row in connection.execute(statement))

    def _note(self, transaction_uid: str, **values: float) -> None:
        this = db.commitments.c.transaction_uid == transaction_uid
        with self._engine.begin() as connection:
            connection.execute(sa.update(db.commitments).where(this).values(values))
