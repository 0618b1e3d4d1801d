"""What destinations were asked to commit to, and what they reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.database import reading
from dicom_node.storage_commitment import Report

Taken = Literal["taken", "repeated", "unknown", "foreign"]


@dataclass(frozen=True)
class Commitment:
    """One transaction of storage commitment.

    Attributes:
        ae_title: Who may report.
        asked_at: Seconds since the epoch, as every time here.
        reported_at: None until a report came.
        committed: SOP Instance UIDs that the destination keeps.
        failed: Failure reason of the others, by SOP Instance UID.
    """

    transaction_uid: str
    case_id: str
    destination: str
    ae_title: str
    asked_at: float
    reported_at: float | None
    committed: list[str]
    failed: dict[str, int]


class Commitments:
    """The ledger's view of storage commitment.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def ask(self, transaction_uid: str, case_id: str, destination: str, *, ae_title: str, now: float) -> None:
        """Record a transaction; before the destination is asked, so that no report finds it missing."""
        row = Commitment(transaction_uid, case_id, destination, ae_title, now, None, [], {})
        with self._engine.begin() as connection:
            connection.execute(sa.insert(db.commitments).values(**vars(row)))

    def forget(self, transaction_uid: str) -> None:
        """Drop a transaction that the destination did not take."""
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
            committed = [reference.sop_instance_uid for reference in report.committed]
            failed = {reference.sop_instance_uid: reason for reference, reason in report.failed.items()}
            connection.execute(sa.update(table).where(this).values(reported_at=now, committed=committed, failed=failed))
        return "taken"

    def latest(self, case_id: str, destination: str) -> Commitment | None:
        """The last transaction of a case at a destination."""
        table = db.commitments
        statement = (
            sa.select(table)
            .where(table.c.case_id == case_id, table.c.destination == destination)
            .order_by(table.c.asked_at.desc())
            .limit(1)
        )
        with reading(self._engine) as connection:
            row = connection.execute(statement).one_or_none()
        return Commitment(**row._mapping) if row else None
