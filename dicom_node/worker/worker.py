"""The worker process: opens cases, runs them, delivers them, and looks after what got stuck."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.engine import Engine
from dicom_node.errors import DeliveryRefused, InputRefused, NodeError, SettingsError, StorageFull
from dicom_node.ledger.audit_events import AuditEvents, audited
from dicom_node.ledger.audit_facts import application
from dicom_node.ledger.cases import Case, Cases
from dicom_node.ledger.counters import Counters
from dicom_node.ledger.database import open_sound_database
from dicom_node.ledger.deliveries import NO_OBJECT, Deliveries, Delivery, State
from dicom_node.ledger.home import require_same_home
from dicom_node.ledger.intake import Intake
from dicom_node.ledger.restorations import Restorations
from dicom_node.logs import get_logger
from dicom_node.outages import LOOK_AGAIN_SECONDS, outage_of
from dicom_node.profiles import Profile, profile_named, require_profiles
from dicom_node.receive.spool import Spool
from dicom_node.route.rules import compile_rules
from dicom_node.segment.inference_process import InferenceProcess
from dicom_node.settings import Settings
from dicom_node.sqlite_file import damage_of, damaged
from dicom_node.tidying import Tidying
from dicom_node.worker.case_run import CaseRun, CaseStep
from dicom_node.worker.collector import Collector
from dicom_node.worker.commitment_reports import CommitmentReports
from dicom_node.worker.delivery_run import WORKFLOW as DELIVERY
from dicom_node.worker.delivery_run import DeliveryRun, queue_of
from dicom_node.worker.preflight import preflight
from dicom_node.worker.takeover import Takeover
from dicom_node.worker.tenure import SILENT_SECONDS, Tenure
from dicom_node.workflow import CaseFiles, CaseWork, is_of_this_version, is_unchanged

_log = get_logger("worker")
CASE = "case"
CASE_QUEUE = "cases"
LOOK_SECONDS = 0.5
WATCH_SECONDS = 10.0
RETRY_SECONDS = 5.0
STOP_SECONDS = 30
BEAT_SECONDS = 10.0
TIDY_SECONDS = 600.0
TIDIED_AT_ONCE = 20
"""Series and cases that one look removes at most; while there are more, the next look goes on."""
FORGOTTEN_AT_ONCE = 200
"""Ended workflows that one look forgets at most."""


class Worker:
    """Everything that happens to a series after it fell quiet.

    Args:
        settings: The node's settings.
        clock: Seconds since the epoch.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        require_profiles(settings)
        database = audited(open_sound_database(settings.database_url), settings)
        if settings.is_shared:
            require_same_home(database, settings.node.home)
        self._settings = settings
        self._clock = clock
        self._cases = Cases(database)
        self._watched = clock()
        self._engine = Engine(settings)
        self.has_begun = False
        """Whether threads of it may run, so that only the end of the process ends them."""
        self._inference = InferenceProcess(
            threads=settings.limits.inference_threads, compiled=settings.limits.inference_compiled
        )
        self._spool = Spool(settings.node.home / "spool")
        self._deliver = DeliveryRun(self._engine, self._cases, Deliveries(database), settings, clock)
        self._collector = Collector(
            Intake(database),
            self._cases,
            self._spool,
            compile_rules(settings),
            quiet_seconds=settings.node.quiet_seconds,
        )
        self._intake = Intake(database)
        self._commitment_reports = CommitmentReports(self._intake.commitment_requests, self._intake, settings, clock)
        self._restorations = Restorations(database)
        self._tidying = Tidying(database, settings)
        self._tidied = self._beaten = float("-inf")
        self._counters = Counters(database)
        self._audit = AuditEvents(database)
        self._run = CaseRun(
            self._engine,
            self._cases,
            self._steps(),
            attempts=settings.limits.attempts,
            clock=clock,
            is_disk_full=self._is_disk_full,
        )
        self._tenure = Tenure(database, self._engine.executor_id, _end_at_once) if settings.is_shared else None
        self._takeover = Takeover(
            database,
            self._engine,
            self._cases,
            give_up=lambda case, reason: self._run.give_up(case, reason, retryable=True),
            queue_of=_queue_of_workflow,
        )

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; then give the running step time to end and leave the rest for the next start.

        A step that outlasts that time still runs when this returns: the process has to end then, as by a kill. To end
        the step by an error instead would cost the case an attempt.
        """
        if self._tenure is not None:  # before the engine runs anything under this name
            self._tenure.begin()
        self._engine.register(CASE, self._case)
        self._engine.register(DELIVERY, self._deliver.run)
        self.has_begun = True
        self._engine.launch()
        self._engine.declare_queue(CASE_QUEUE, concurrency=1)
        for queue, at_once in self._deliver.queues.items():
            self._engine.declare_queue(queue, concurrency=at_once)
        threading.Thread(target=self._commitment_reports.run, args=(stop,), name="commitment", daemon=True).start()
        preflight(self._settings)
        self._tell(started=True)
        _log.info("worker ready", executor=self._engine.executor_id)
        pause = LOOK_SECONDS
        while not stop.wait(pause):
            pause = self._look_or_wait()
        self._forgive_starts()
        self._engine.stop(patience_seconds=STOP_SECONDS)
        self._tell(started=False)
        if self._tenure is not None:  # who leaves a step behind stays on record for a while: it may be back at once
            self._tenure.end(leave=self._engine.is_idle)

    def _look_or_wait(self) -> float:
        """Look; returns the seconds until the next look, more of them where the ledger or the spool is away."""
        try:
            self._look()
        except (SQLAlchemyError, OSError, StorageFull) as error:  # these pass, and the next look goes on
            if damage := damage_of(error):
                _end_at_once(damaged("the database", damage), SettingsError.exit_code)
            if (reason := outage_of(error)) is None:
                _log.exception("the ledger or the spool cannot be used; trying again")
            else:
                _log.warning("waiting", reason=reason, seconds=LOOK_AGAIN_SECONDS)
            return LOOK_AGAIN_SECONDS
        return LOOK_SECONDS

    def _forgive_starts(self) -> None:
        """Of what an orderly stop interrupts; where that cannot be put on record it looks as if it had been killed."""
        try:
            for case in self._cases.unfinished():
                self._cases.forgive_starts(case.case_id)
        except SQLAlchemyError as error:
            _log.warning("not on record that the node stops in good order", error=type(error).__name__)

    def _is_disk_full(self) -> bool:
        """Whether less is free than [limits] keeps free: the listener takes nothing then, either."""
        return shutil.disk_usage(self._settings.node.home).free < self._settings.limits.free_bytes

    def _tell(self, *, started: bool) -> None:
        """Tell the audit trail that the worker starts or stops; a ledger that is busy keeps it from neither."""
        try:
            self._audit.record(self._clock(), application("worker", started=started))
        except SQLAlchemyError as error:
            _log.warning("start or stop not in the audit trail", error=type(error).__name__)

    def _look(self) -> None:
        if self._clock() - self._beaten > BEAT_SECONDS:
            self._counters.beat("worker", self._clock())
            self._beaten = self._clock()
        self._collector.open_cases(self._clock())
        self._enqueue_waiting()
        if self._tenure is not None and self._tenure.heard_for() > SILENT_SECONDS:
            self._takeover.look(SILENT_SECONDS)
        if self._clock() - self._watched > WATCH_SECONDS:
            self._watched = self._clock()
            self._watch()
        if self._clock() - self._tidied > TIDY_SECONDS:
            self._tidied = self._clock()
            forgotten = self._engine.forget_ended(self._tidying.records_before(self._clock()), FORGOTTEN_AT_ONCE)
            if not self._tidying.run(self._clock(), TIDIED_AT_ONCE).is_nothing or forgotten == FORGOTTEN_AT_ONCE:
                self._tidied = float("-inf")

    def _case(self, case_id: str, attempt: int) -> None:
        is_verified = self._engine.step("look for verified results", self._is_verified, case_id)
        if is_verified or self._run.run(case_id, attempt):
            self._deliver.begin(case_id, attempt, self._engine.outlasting("plan", self._planned, case_id))
            self._tidy(case_id)

    def _tidy(self, case_id: str) -> None:
        try:
            case = self._cases.get(case_id)
            for attempt in range(1, case.attempt + 1):
                self._work(replace(case, attempt=attempt)).tidy()
        except (NodeError, OSError, SQLAlchemyError) as error:  # it takes room, but keeps no results from arriving
            _log.warning("case not tidied", case=case_id[:12], reason=type(error).__name__)

    def _is_verified(self, case_id: str) -> bool:
        """Whether an earlier attempt left results that only have to be delivered."""
        case = self._cases.get(case_id)
        facts = case.outputs
        if not facts.get("verified") or not is_of_this_version(facts):
            return False
        answered = {result["profile"] for result in facts["results"]} | set(facts["refused"])
        is_answered = all(profile.identity in answered for profile in self._profiles(case).values())
        return is_answered and all(is_unchanged(result) for result in facts["results"])

    def _steps(self) -> tuple[CaseStep, ...]:
        return (
            CaseStep("assemble", "assembling", lambda case: self._work(case).assemble()),
            CaseStep("segment", "segmenting", lambda case: self._work(case).segment()),
            CaseStep("encode", "encoding", lambda case: self._work(case).encode()),
            CaseStep("verify", "verifying", lambda case: self._work(case).verify()),
        )

    def _work(self, case: Case) -> CaseWork:
        wanted = set(case.instances)
        of_series = self._intake.instances_of(case.series_instance_uid)
        instances = [item for item in of_series if item.sop_instance_uid in wanted]
        if len(instances) < len(wanted):  # never segmented without them
            raise InputRefused(
                f"{len(wanted) - len(instances)} of {len(wanted)} images are not on record any more: [retention] "
                "removed them; send the series again"
            )
        return CaseWork(
            case_id=case.case_id,
            card_name=str(case.card),
            created_at=case.created_at,
            instances=tuple(self._spool.root / item.path for item in instances),
            files=CaseFiles(case_folder(self._settings.node.home, case)),
            inference=self._inference,
            timeout_seconds=self._settings.limits.segmentation_seconds,
            profiles=tuple({profile.identity: profile for profile in self._profiles(case).values()}.values()),
            facts=case.outputs,
        )

    def _profiles(self, case: Case) -> dict[str, Profile]:
        """How results are made for each destination of a case; for nobody, as for a destination without a profile."""
        return {name: self._profile(case, name) for name in case.destinations} or {"": Profile()}

    def _profile(self, case: Case, destination: str) -> Profile:
        try:
            name = self._deliver.table_of(case, destination).profile
        except DeliveryRefused:  # its delivery will say so; until then its results are made as any other's
            return Profile()
        return profile_named(self._settings, name, f'destination "{destination}"')

    def _planned(self, case_id: str) -> list[Delivery]:
        """What goes where, by the profiles of now; what no object could be made of goes on record as refused."""
        case = self._cases.get(case_id)
        refused: dict[str, str] = case.outputs.get("refused", {})
        # what was sent after the backup that the ledger came from is asked for first, not sent twice
        state: State = "failed" if case.last_image_at <= self._restorations.last() else "waiting"
        planned = []
        for destination, profile in self._profiles(case).items():
            results = [item for item in case.outputs["results"] if item.get("profile") == profile.identity]
            planned += [
                Delivery(case_id, destination, item["sop_instance_uid"], item["sop_class_uid"], item["path"], state)
                for item in results
            ]
            if not results and profile.identity in refused:
                reason = refused[profile.identity]
                planned.append(Delivery(case_id, destination, NO_OBJECT, "", "", state="refused", message=reason))
        return [item for item in planned if item.destination]

    def _enqueue_waiting(self) -> None:
        for case in self._cases.unfinished():
            if case.state == "waiting":
                identity = workflow_identity(case)
                delay = RETRY_SECONDS * (case.attempt - 1)
                urgent = case.priority == "urgent"
                self._engine.enqueue(CASE_QUEUE, CASE, identity, case.case_id, case.attempt, urgent=urgent, delay=delay)

    def _watch(self) -> None:
        for identity in self._engine.resume_lost(_queue_of_workflow):
            _log.warning("resumed a workflow that had stopped without ending", workflow=identity)
        for case in self._cases.unfinished():
            identity = workflow_identity(case)
            is_waiting = case.state == "waiting"  # perhaps not enqueued yet
            if not self._engine.has_ended(identity) if is_waiting else self._engine.is_alive(identity):
                continue
            now = self._cases.get(case.case_id)
            if (now.state, now.attempt) == (case.state, case.attempt):  # it did not move on while we looked
                self._run.give_up(case, "its workflow ended by an unexpected error", retryable=True)


def case_folder(home: Path, case: Case) -> Path:
    """Where a case's present attempt keeps its files.

    Each attempt has a folder of its own: what a worker that froze writes when it wakes up is in nobody's way.
    """
    folder = home / "cases" / case.case_id
    return folder if case.attempt == 1 else folder / f"attempt-{case.attempt}"


def workflow_identity(case: Case) -> str:
    """Identity of the workflow that runs a case's present attempt."""
    return f"{case.case_id}.{case.attempt}"


def _end_at_once(reason: str, exit_code: int = 1) -> None:
    """End this process: what it still does is done elsewhere by now, or cannot be put on record."""
    _log.error("the worker ends, to be started anew", reason=reason)
    os._exit(exit_code)


def _queue_of_workflow(identity: str) -> str:
    parts = identity.split(".")
    return CASE_QUEUE if len(parts) == 2 else queue_of(parts[2])
