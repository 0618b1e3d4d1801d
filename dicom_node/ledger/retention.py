"""What may be forgotten: images, results and records of what is finished, and of nothing else.

Images leave in two steps. One transaction takes a series off the record and lists its files as leaving; only then are
they removed, each under the lock of a transaction that finds it still listed. A kill in between leaves files that are
listed, and the next pass removes them: no image on record ever lacks its file, and no file is left that nobody knows.
An image that comes again takes itself off the list as it is recorded (:meth:`Intake.record`). Where there is an audit
trail, files that are leaving stay until it has told of them: only they say whose images they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.audit_events import is_audited, is_untold, note
from dicom_node.ledger.audit_facts import results_removed, series_removed
from dicom_node.ledger.database import insert_or_nothing, reading

_ENDED = ("done", "superseded", "discarded")
_ARRIVED = ("confirmed", "spared")


@dataclass(frozen=True)
class DueSeries:
    """A series whose images may go."""

    series_instance_uid: str
    images: int
    size: int


class Retention:
    """The ledger's view of what may go.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def due_series(self, before: float, most: int) -> tuple[DueSeries, ...]:
        """Series that were finished, and not sent to, since a moment; at most so many."""
        count, size = sa.func.count(), sa.func.coalesce(sa.func.sum(db.instances.c.size), 0)
        statement = (
            sa.select(db.series.c.series_instance_uid, count, size)
            .join(db.instances, db.instances.c.series_instance_uid == db.series.c.series_instance_uid)
            .where(*_may_leave(before))
            .group_by(db.series.c.series_instance_uid)
            .order_by(sa.func.min(db.series.c.last_received_at))
            .limit(most)
        )
        with reading(self._engine) as connection:
            return tuple(DueSeries(uid, images, int(size)) for uid, images, size in connection.execute(statement))

    def let_go(self, series_instance_uid: str, before: float, now: float) -> bool:
        """Take a series off the record and list its files as leaving; False where it may not go any more."""
        is_it = db.series.c.series_instance_uid == series_instance_uid
        with self._engine.begin() as connection:
            connection.execute(sa.select(db.series.c.series_instance_uid).where(is_it).with_for_update())
            if connection.execute(sa.select(db.series.c.series_instance_uid).where(is_it, *_may_leave(before))).first():
                if is_audited(connection):
                    note(connection, now, *series_removed(connection, series_instance_uid))
                self._list_as_leaving(connection, series_instance_uid)
                self._note_removed(connection, series_instance_uid, now)
                for table in (db.instances, db.series, db.resent_series, db.expected_series):
                    connection.execute(sa.delete(table).where(table.c.series_instance_uid == series_instance_uid))
                return True
        return False

    def leaving(self, most: int, untold_since: float = 0.0) -> tuple[str, ...]:
        """SOP Instance UIDs whose files are to be removed now; at most so many.

        Args:
            most: How many.
            untold_since: Those that left the record after this moment wait for the audit trail, where there is one.
        """
        table = db.leaving_images
        statement = sa.select(table.c.sop_instance_uid).order_by(table.c.path).limit(most)
        with reading(self._engine) as connection:
            if is_audited(connection):
                statement = statement.where(~is_untold("removed", table.c.series_instance_uid, untold_since))
            return tuple(connection.execute(statement).scalars())

    def remove(self, sop_instance_uids: tuple[str, ...], remove_files: Callable[[list[str]], None]) -> int:
        """Remove files that are leaving.

        Args:
            sop_instance_uids: Whose.
            remove_files: Removes the files of these paths durably; files that are missing are removed already. Called
                while nobody can record an image of the same name.

        Returns:
            How many bytes.
        """
        table = db.leaving_images
        with self._engine.begin() as connection:
            strike = sa.delete(table).where(table.c.sop_instance_uid.in_(sop_instance_uids))
            struck = connection.execute(strike.returning(table.c.path, table.c.size))
            taken = [(str(path), int(size)) for path, size in struck]
            # a version of the node that knows no list of what is leaving may have recorded an image that is on it
            recorded = sa.select(db.instances.c.path).where(db.instances.c.path.in_([path for path, _ in taken]))
            kept = set(connection.execute(recorded).scalars())
            taken = [(path, size) for path, size in taken if path not in kept]
            remove_files([path for path, _ in taken])
        return sum(size for _, size in taken)

    def due_results(self, before: float, most: int) -> tuple[str, ...]:
        """Cases whose results may go; at most so many."""
        statement = (
            sa.select(db.cases.c.case_id).where(*_results_may_go(before)).order_by(db.cases.c.finished_at).limit(most)
        )
        with reading(self._engine) as connection:
            return tuple(connection.execute(statement).scalars())

    def remove_results(self, case_id: str, before: float, now: float, set_aside: Callable[[], Path]) -> bool:
        """Note that the results of a case are removed; False where they may not go any more.

        Args:
            case_id: Whose.
            before: When the case has to have ended.
            now: Seconds since the epoch.
            set_aside: Moves the folder of the case durably, and returns where to; it may be there already. It is
                removed for good later.

        A kill in the middle leaves a case that is still due. One that a person retries before the next pass finds its
        results changed and makes them anew.
        """
        is_it = db.cases.c.case_id == case_id
        with self._engine.begin() as connection:
            connection.execute(sa.select(db.cases.c.case_id).where(is_it).with_for_update())
            if not connection.execute(sa.select(db.cases.c.case_id).where(is_it, *_results_may_go(before))).first():
                return False
            aside = set_aside()
            if is_audited(connection):
                note(connection, now, *results_removed(connection, case_id, aside))
            row = {"case_id": case_id, "what": "results", "removed_at": now}
            connection.execute(insert_or_nothing(connection, db.removed_from_cases).values(row))
        return True

    def old_records(self, before: float) -> int:
        """How many cases are on record of which neither images nor results have been there since a moment."""
        with reading(self._engine) as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(_old_cases(before).subquery())) or 0)

    def forget_records(self, before: float) -> int:
        """Forget such cases with deliveries and commitments, and associations nothing came over; returns how many."""
        with self._engine.begin() as connection:
            case_ids = list(connection.execute(_old_cases(before).limit(500)).scalars())
            for table in (db.deliveries, db.commitments, db.removed_from_cases, db.cases):
                connection.execute(sa.delete(table).where(table.c.case_id.in_(case_ids)))
            # of a case that was forgotten by a version that left them: while a case is there, its transaction UIDs
            # have to be known, or one would be used again
            is_known = sa.exists().where(db.cases.c.case_id == db.commitments.c.case_id)
            connection.execute(sa.delete(db.commitments).where(db.commitments.c.asked_at < before, ~is_known))
            is_used = sa.exists().where(db.instances.c.association_id == db.associations.c.id)
            is_last = sa.exists().where(db.series.c.last_association_id == db.associations.c.id)
            connection.execute(
                sa.delete(db.associations).where(db.associations.c.closed_at < before, ~is_used, ~is_last)
            )
        return len(case_ids)

    def forget_requests(self, before: float) -> int:
        """Forget what senders asked this node to commit to, once they were told or given up; returns how many."""
        table = db.commitment_requests
        with self._engine.begin() as connection:
            answered = sa.delete(table).where(table.c.next_at.is_(None), table.c.asked_at < before)
            return int(connection.execute(answered).rowcount)

    @staticmethod
    def _list_as_leaving(connection: sa.Connection, series_instance_uid: str) -> None:
        columns = ("sop_instance_uid", "series_instance_uid", "path", "size")
        leaving = sa.select(*(db.instances.c[name] for name in columns)).where(
            db.instances.c.series_instance_uid == series_instance_uid
        )
        connection.execute(sa.insert(db.leaving_images).from_select(columns, leaving))

    @staticmethod
    def _note_removed(connection: sa.Connection, series_instance_uid: str, now: float) -> None:
        cases = sa.select(db.cases.c.case_id).where(db.cases.c.series_instance_uid == series_instance_uid)
        for case_id in connection.execute(cases).scalars().all():
            row = {"case_id": case_id, "what": "images", "removed_at": now}
            connection.execute(insert_or_nothing(connection, db.removed_from_cases).values(row))


def _is_blocked(series_instance_uid: sa.ColumnElement[str], before: float) -> sa.ColumnElement[bool]:
    """Whether a case of a series is held, unfinished, ended too lately, or has not arrived everywhere."""
    case, delivery = db.cases.alias(), db.deliveries.alias()
    undelivered = sa.exists().where(
        delivery.c.case_id == case.c.case_id, case.c.state == "done", delivery.c.state.not_in(_ARRIVED)
    )
    has_not_ended = case.c.state.not_in(_ENDED) | case.c.finished_at.is_(None) | (case.c.finished_at > before)
    return sa.exists().where(case.c.series_instance_uid == series_instance_uid, has_not_ended | undelivered)


def _may_leave(before: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on ``series`` under which its images may go."""
    uid = db.series.c.series_instance_uid
    case, instance, association, again = (
        table.alias() for table in (db.cases, db.instances, db.associations, db.resent_series)
    )
    sending = sa.exists().where(
        instance.c.series_instance_uid == uid,
        instance.c.association_id == association.c.id,
        association.c.closed_at.is_(None) | (association.c.closed_at > before),
    )
    return (
        db.series.c.instances == db.series.c.cased_instances,
        db.series.c.last_received_at <= before,
        sa.exists().where(case.c.series_instance_uid == uid, case.c.state.in_(("done", "discarded"))),
        ~_is_blocked(uid, before),
        ~sending,
        ~sa.exists().where(again.c.series_instance_uid == uid, again.c.at > before),
    )


def _results_may_go(before: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on ``cases`` under which the results of one may go."""
    removed = db.removed_from_cases.alias()
    return (
        db.cases.c.state.in_(_ENDED),
        ~_is_blocked(db.cases.c.series_instance_uid, before),
        ~sa.exists().where(removed.c.case_id == db.cases.c.case_id, removed.c.what == "results"),
    )


def _old_cases(before: float) -> sa.Select[tuple[str]]:
    removed = db.removed_from_cases
    is_back = sa.exists().where(db.series.c.series_instance_uid == db.cases.c.series_instance_uid)
    both = (
        sa.select(removed.c.case_id)
        .where(removed.c.removed_at <= before)
        .group_by(removed.c.case_id)
        .having(sa.func.count() == 2)
    )
    return sa.select(db.cases.c.case_id).where(
        db.cases.c.case_id.in_(both), db.cases.c.state.in_(_ENDED), db.cases.c.finished_at <= before, ~is_back
    )
