"""Cases: what is segmented together, and how far each has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

import sqlalchemy as sa

from dicom_node.errors import TakenOver, UsageError
from dicom_node.ledger import audit_facts
from dicom_node.ledger import database as db
from dicom_node.ledger.audit_events import AuditEvent, is_audited, note
from dicom_node.ledger.counters import Counters, step_counts
from dicom_node.ledger.database import insert_or_nothing, reading

CaseState = Literal[
    "waiting",
    "assembling",
    "segmenting",
    "encoding",
    "verifying",
    "delivering",
    "done",
    "held",
    "superseded",
    "discarded",
]
FINAL_STATES: frozenset[str] = frozenset({"done", "held", "superseded", "discarded"})
_UNFINISHED: frozenset[str] = frozenset(get_args(CaseState)) - FINAL_STATES


@dataclass(frozen=True)
class Case:
    """One case as it is on record.

    Attributes:
        case_id: Hash of the SOP Instance UIDs, the card and the weights: the same work always has the same identity.
        instances: SOP Instance UIDs, sorted.
        calling_ae: Who sent it, and from which ``address``.
        rule: Name of the routing rule that chose card and destinations.
        card: Card that segments it; None where none could be chosen (the case is held then).
        state: One of :data:`CaseState`; ``reason`` says why in plain words where that is not obvious.
        attempt: Runs of the whole case so far, this one included.
        last_image_at: When its last image was received, seconds since the epoch, as every time here.
        timings: Seconds by step; ``attempts`` of a step under ``<step>.starts``.
        outputs: Result files by kind, with their SHA-256, and notes on the segmentation.
    """

    case_id: str
    study_instance_uid: str
    series_instance_uid: str
    instances: list[str]
    calling_ae: str
    address: str
    rule: str | None
    card: str | None
    destinations: list[str]
    priority: str
    state: CaseState
    reason: str | None
    last_image_at: float
    created_at: float
    updated_at: float
    attempt: int = 1
    finished_at: float | None = None
    timings: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


class Cases:
    """The ledger's view of cases.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def open(self, case: Case) -> bool:
        """Put a case on record, mark its instances as cased and supersede older cases of the series.

        Returns:
            False when this very case was on record already (its instances count as cased all the same), or when the
            case is not the one to open: an image came meanwhile, or another worker opened a case of the same images.
            A case whose images were removed, and have all come again, begins anew: True.
        """
        with self._engine.begin() as connection:
            if self._is_stale(connection, case):
                return False
            is_new = bool(connection.execute(insert_or_nothing(connection, db.cases).values(**vars(case))).rowcount)
            connection.execute(
                sa.update(db.series)
                .where(
                    db.series.c.series_instance_uid == case.series_instance_uid,
                    db.series.c.cased_instances < len(case.instances),
                )
                .values(cased_instances=len(case.instances))
            )
            is_new = is_new or self._restart_emptied(connection, case)
            if is_new:
                self._supersede_older(connection, case)
        return is_new

    def get(self, case_id: str) -> Case:
        """A case by its identity or the beginning of it.

        Raises:
            UsageError: No case, or several, begin so.
        """
        statement = sa.select(db.cases).where(db.cases.c.case_id.startswith(case_id, autoescape=True)).limit(2)
        with reading(self._engine) as connection:
            rows = connection.execute(statement).all()
        if len(rows) != 1:
            found = "no case begins" if not rows else "several cases begin"
            raise UsageError(f'{found} with "{case_id}"; "dicom-node cases list" shows them')
        return Case(**rows[0]._mapping)

    def list(self, states: Sequence[str] = ()) -> tuple[Case, ...]:
        """Cases, oldest first; only those in the given states where any are given."""
        statement = sa.select(db.cases).order_by(db.cases.c.created_at, db.cases.c.case_id)
        if states:
            statement = statement.where(db.cases.c.state.in_(states))
        with reading(self._engine) as connection:
            return tuple(Case(**row._mapping) for row in connection.execute(statement))

    def unfinished(self) -> tuple[Case, ...]:
        """Cases that still have work to do, urgent ones first."""
        cases = self.list(sorted(_UNFINISHED))
        return tuple(sorted(cases, key=lambda case: (case.priority != "urgent", case.created_at)))

    def advance(
        self, case_id: str, state: CaseState, now: float, reason: str | None = None, *, attempt: int | None = None
    ) -> bool:
        """Move an unfinished case on.

        Args:
            case_id: Its identity.
            state: Where to.
            now: Seconds since the epoch.
            reason: In plain words, where it is not obvious.
            attempt: Only if this is still the attempt that counts; whichever it is where None. So it is below.

        Returns:
            False when the case had ended meanwhile (superseded, discarded ...), or another attempt counts; it is left
            as it is.
        """
        final = {"finished_at": now} if state in FINAL_STATES else {}
        with self._engine.begin() as connection:
            before = connection.scalar(sa.select(db.cases.c.state).where(db.cases.c.case_id == case_id))
            result = connection.execute(
                sa.update(db.cases)
                .where(_of_attempt(case_id, attempt), db.cases.c.state.not_in(FINAL_STATES))
                .values(state=state, reason=reason, updated_at=now, **final)
            )
            if result.rowcount and state == "assembling" != before and is_audited(connection):
                note(connection, now, *audit_facts.images_read(connection, case_id))
            return bool(result.rowcount)

    def count_start(self, case_id: str, step: str, *, attempt: int | None = None) -> int:
        """Count that a step begins; returns how often it has begun in this attempt, this time included.

        Raises:
            TakenOver: Another attempt counts. So it is below.
        """
        key = f"{step}.starts"
        return int(self._merge(case_id, "timings", lambda timings: {key: timings.get(key, 0) + 1}, attempt)[key])

    def note_seconds(self, case_id: str, step: str, seconds: float, *, attempt: int | None = None) -> None:
        """Record how long a step took."""
        self._merge(case_id, "timings", lambda _: {step: round(seconds, 3)}, attempt)
        Counters(self._engine).add(step_counts(step, seconds))

    def note_outputs(self, case_id: str, outputs: Mapping[str, Any], now: float, *, attempt: int | None = None) -> None:
        """Record what a step produced."""
        with self._engine.begin() as connection:
            self._merge_within(connection, case_id, "outputs", lambda _: outputs, attempt)
            if outputs.get("verified") and is_audited(connection):
                note(connection, now, *audit_facts.results_made(connection, case_id))

    def retry(
        self,
        case_id: str,
        now: float,
        destinations: Sequence[str] | None = None,
        *,
        also_done: bool = False,
        person: str = "",
        also: Callable[[sa.Connection], None] = lambda _: None,
    ) -> Case:
        """Make a held or discarded case run again.

        A case that no rule or card took is forgotten instead, so that its series is routed anew, by today's rules.

        Args:
            case_id: Its identity, or the beginning of it.
            now: Seconds since the epoch.
            destinations: Where its results go from now on; as before where None.
            also_done: Whether one that is done may run again, too.
            person: Who wants it, for the audit trail.
            also: What is done with its deliveries, in the same transaction: a case whose results have not arrived
                is never left done.

        Raises:
            UsageError: The case is still running or has ended well, a later case of its series took over, or its images
                were removed by retention.
        """
        case = self.get(case_id)
        self._require_ended(case, also_done=also_done)
        event = audit_facts.restricted(person, f"case {case.case_id} is to run again")
        if case.card is None:
            return self._route_again(case, now, event, also)

        def begin_anew(connection: sa.Connection) -> None:
            _forget_removal(connection, case.case_id)
            also(connection)

        changed = {} if destinations is None else {"destinations": list(destinations)}
        again = self._restarted(case, now, "retried by a person") | changed
        if not self._change(case.case_id, _ended(also_done=also_done), event=event, also=begin_anew, **again):
            raise UsageError(f"case {case.case_id[:12]} went on meanwhile: only held or discarded cases run again")
        return self.get(case.case_id)

    def _require_ended(self, case: Case, *, also_done: bool) -> None:
        if self._has_lost_images(case):
            raise UsageError(f"case {case.case_id[:12]}: its images were removed by [retention]; send them again")
        if case.card is not None and case.state not in _ended(also_done=also_done):
            raise UsageError(f"case {case.case_id[:12]} is {case.state}: only held or discarded cases run again")

    def next_attempt(self, case_id: str, now: float, reason: str, *, attempt: int | None = None) -> bool:
        """Make an unfinished case run again after an error that may pass; returns whether it does.

        Of several who say so of one attempt, one is heard.
        """
        case = self.get(case_id)
        said_of = case.attempt if attempt is None else attempt
        return self._change(case_id, _UNFINISHED, attempt_now=said_of, **self._restarted(case, now, reason))

    def discard(self, case_id: str, now: float, *, person: str = "") -> Case:
        """Give a case up; its images and results stay on disk until retention removes them.

        Args:
            case_id: Its identity, or the beginning of it.
            now: Seconds since the epoch.
            person: Who wants it, for the audit trail.

        Raises:
            UsageError: The case is done or superseded already.
        """
        case = self.get(case_id)
        changes: dict[str, Any] = {
            "state": "discarded",
            "reason": "discarded by a person",
            "updated_at": now,
            "finished_at": now,
        }
        event = audit_facts.restricted(person, f"case {case.case_id} is discarded")
        if not self._change(case.case_id, {*_UNFINISHED, "held", "discarded"}, event=event, **changes):
            raise UsageError(f"case {case.case_id[:12]} is {case.state}: there is nothing to discard")
        return self.get(case.case_id)

    def forgive_starts(self, case_id: str) -> None:
        """Forget how often steps began: they were interrupted by an orderly stop, not by a fault of the case."""
        self._merge(case_id, "timings", lambda timings: dict.fromkeys(filter(_is_start, timings), 0))

    def removed(self, case_id: str) -> dict[str, float]:
        """When retention removed what of a case: ``images``, ``results``, in seconds since the epoch."""
        table = db.removed_from_cases
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(table.c.what, table.c.removed_at).where(table.c.case_id == case_id))
            return {row.what: row.removed_at for row in rows}

    def _has_lost_images(self, case: Case) -> bool:
        return "images" in self.removed(case.case_id)

    @staticmethod
    def _restart_emptied(connection: sa.Connection, case: Case) -> bool:
        """Have a case whose images were removed run again, now that they are back; whether it was such a case.

        Its results keep their UIDs, and each destination is asked first what it still has.
        """
        images = db.removed_from_cases.c.case_id == case.case_id, db.removed_from_cases.c.what == "images"
        if not connection.execute(sa.delete(db.removed_from_cases).where(*images)).rowcount:
            return False
        _forget_removal(connection, case.case_id)
        reason = "its images were sent again after they had been removed"
        again = {name: getattr(case, name) for name in ("destinations", "rule", "priority", "calling_ae", "address")}
        again |= {"state": "waiting", "reason": reason, "timings": {}, "finished_at": None}
        again |= {"last_image_at": case.last_image_at, "updated_at": case.created_at, "attempt": db.cases.c.attempt + 1}
        connection.execute(sa.update(db.cases).where(db.cases.c.case_id == case.case_id).values(again))
        connection.execute(
            sa.update(db.deliveries)
            .where(db.deliveries.c.case_id == case.case_id, db.deliveries.c.state != "spared")
            .values(state="failed", attempts=0, message=None, updated_at=case.created_at)
        )
        return True

    @staticmethod
    def _is_stale(connection: sa.Connection, case: Case) -> bool:
        """Whether the series is no longer as it was when the case was made; holds back who would change it now."""
        of_series = db.series.c.series_instance_uid == case.series_instance_uid
        counts = sa.select(db.series.c.instances, db.series.c.cased_instances).where(of_series).with_for_update()
        row = connection.execute(counts).one_or_none()
        return row is not None and (row.instances != len(case.instances) or row.cased_instances >= row.instances)

    @staticmethod
    def _restarted(case: Case, now: float, reason: str) -> dict[str, Any]:
        return {
            "state": "waiting",
            "reason": reason,
            "attempt": case.attempt + 1,
            "updated_at": now,
            "finished_at": None,
            "timings": {},
        }

    def _route_again(self, case: Case, now: float, event: AuditEvent, also: Callable[[sa.Connection], None]) -> Case:
        later = sa.and_(
            db.cases.c.series_instance_uid == case.series_instance_uid, db.cases.c.created_at > case.created_at
        )
        with self._engine.begin() as connection:
            if connection.execute(sa.select(db.cases.c.case_id).where(later)).first():
                raise UsageError(f"case {case.case_id[:12]}: a later case of the same series has taken over")
            connection.execute(sa.delete(db.cases).where(db.cases.c.case_id == case.case_id))
            connection.execute(
                sa.update(db.series)
                .where(db.series.c.series_instance_uid == case.series_instance_uid)
                .values(cased_instances=0)
            )
            also(connection)
            note(connection, now, event)
        return replace(case, state="waiting", reason="its series is routed again")

    def _change(
        self,
        case_id: str,
        states: AbstractSet[str],
        *,
        attempt_now: int | None = None,
        event: AuditEvent | None = None,
        also: Callable[[sa.Connection], None] = lambda _: None,
        **values: Any,
    ) -> bool:
        """Change a case that is in one of these states; returns whether it was."""
        is_so = _of_attempt(case_id, attempt_now), db.cases.c.state.in_(states)
        with self._engine.begin() as connection:
            is_changed = bool(connection.execute(sa.update(db.cases).where(*is_so).values(**values)).rowcount)
            if is_changed:
                also(connection)
                note(connection, values["updated_at"], *([event] if event is not None else []))
            return is_changed

    def _merge(self, case_id: str, column: str, change: Any, attempt: int | None = None) -> dict[str, Any]:
        with self._engine.begin() as connection:
            return self._merge_within(connection, case_id, column, change, attempt)

    @staticmethod
    def _merge_within(
        connection: sa.Connection, case_id: str, column: str, change: Any, attempt: int | None
    ) -> dict[str, Any]:
        statement = sa.select(db.cases.c[column]).where(_of_attempt(case_id, attempt)).with_for_update()
        row = connection.execute(statement).one_or_none()
        if row is None:
            raise TakenOver(f"another attempt at case {case_id[:12]} has taken over")
        held = cast("dict[str, Any]", row[0])
        merged = {**held, **change(held)}
        connection.execute(sa.update(db.cases).where(db.cases.c.case_id == case_id).values({column: merged}))
        return merged

    @staticmethod
    def _supersede_older(connection: sa.Connection, case: Case) -> None:
        older = sa.and_(db.cases.c.series_instance_uid == case.series_instance_uid, db.cases.c.case_id != case.case_id)
        reason = f"superseded by case {case.case_id[:12]}: more images of the series came"
        connection.execute(
            sa.update(db.cases)
            .where(older, db.cases.c.state != "done", db.cases.c.state != "discarded")
            .values(state="superseded", reason=reason, updated_at=case.created_at, finished_at=case.created_at)
        )
        connection.execute(sa.update(db.cases).where(older, db.cases.c.state == "done").values(reason=reason))


def _of_attempt(case_id: str, attempt: int | None) -> sa.ColumnElement[bool]:
    is_case = db.cases.c.case_id == case_id
    return is_case if attempt is None else sa.and_(is_case, db.cases.c.attempt == attempt)


def _forget_removal(connection: sa.Connection, case_id: str) -> None:
    """Forget that the results of a case were removed: it makes them anew, and retention has to come for those too."""
    connection.execute(sa.delete(db.removed_from_cases).where(db.removed_from_cases.c.case_id == case_id))


def _ended(*, also_done: bool) -> set[str]:
    """States from which a person has a case run again."""
    return {"held", "discarded", *(["done"] if also_done else [])}


def _is_start(key: str) -> bool:
    return key.endswith(".starts")
