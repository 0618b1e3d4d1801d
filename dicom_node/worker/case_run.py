"""One run of one case: the steps of the workflow, each checkpointed, timed, and ending in a state a person can see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dicom_node.engine import Engine
from dicom_node.errors import NodeError, StorageFull, TakenOver
from dicom_node.ledger.cases import Case, Cases, CaseState
from dicom_node.logs import get_logger
from dicom_node.outages import outage_of

_log = get_logger("worker")

STARTS_PER_STEP = 3
"""A step that began this often without ending took the process down with it each time: the case is held.

What is tried again after an outage, in a process that lives, did not begin again. An orderly stop forgives them, and
what another worker takes over is another attempt, which counts from the beginning.
"""


@dataclass(frozen=True)
class CaseStep:
    """A step: the state it puts the case in, and what it does; returns JSON that is noted with the case."""

    name: str
    state: CaseState
    perform: Callable[[Case], dict[str, Any]]


class CaseRun:
    """Carries cases through their steps.

    Args:
        engine: Checkpoints each step.
        cases: The cases on record.
        steps: What is done, in order.
        attempts: Runs of a case before an error that could pass holds it.
        clock: Seconds since the epoch.
        is_disk_full: Whether the disk of the home holds nothing more, for this case or any other.
    """

    def __init__(
        self,
        engine: Engine,
        cases: Cases,
        steps: tuple[CaseStep, ...],
        *,
        attempts: int,
        clock: Callable[[], float],
        is_disk_full: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._cases = cases
        self._steps = steps
        self._attempts = attempts
        self._clock = clock
        self._is_disk_full = is_disk_full
        self._begun: set[tuple[str, int, str]] = set()

    def run(self, case_id: str, attempt: int) -> bool:
        """Carry one attempt at a case through its steps, within a workflow.

        Returns:
            Whether every step succeeded.
        """
        return all(
            self._engine.step(step.name, self._perform, step.name, case_id, attempt)["ok"] for step in self._steps
        )

    def _perform(self, name: str, case_id: str, attempt: int) -> dict[str, bool]:
        step = next(step for step in self._steps if step.name == name)
        case = self._cases.get(case_id)
        if case.attempt != attempt or not self._cases.advance(case_id, step.state, self._clock(), attempt=attempt):
            return {"ok": False}  # superseded, discarded, or another attempt has taken over
        try:
            return {"ok": self._carry_out(step, case)}
        except TakenOver as error:  # this process froze, and another one has gone on with the case
            _log.warning("step given up", case=case_id[:12], step=name, reason=error.message)
            return {"ok": False}

    def _carry_out(self, step: CaseStep, case: Case) -> bool:
        name, case_id = step.name, case.case_id
        if not self._may_begin(name, case):
            self._hold(case, f"{name} began {STARTS_PER_STEP} times and took its process down each time")
            return False
        started = self._clock()
        try:
            outputs = step.perform(case)
        except Exception as error:  # whatever a case raises ends in a state a person sees; the node stays up
            if self._is_waited_for(error):
                self._cases.advance(
                    case_id, step.state, self._clock(), f"waits: {outage_of(error)}", attempt=case.attempt
                )
                raise  # the engine tries it again
            self._fail(name, case, error)
            is_done = False
        else:
            self._cases.note_seconds(case_id, name, self._clock() - started, attempt=case.attempt)
            self._cases.note_outputs(case_id, outputs, self._clock(), attempt=case.attempt)
            is_done = True
        self._begun.discard((case_id, case.attempt, name))
        return is_done

    def _is_waited_for(self, error: Exception) -> bool:
        """Whether a step is tried again until it succeeds: not where only this case is too large for what is free."""
        return self._is_disk_full() if isinstance(error, StorageFull) else outage_of(error) is not None

    def _fail(self, name: str, case: Case, error: Exception) -> None:
        if isinstance(error, NodeError):
            self.give_up(case, error.message, retryable=error.retryable)
            return
        _log.error("unexpected error", case=case.case_id[:12], step=name, exc_info=error)
        reason = f"{name} failed unexpectedly ({type(error).__name__}); the log says where"
        self.give_up(case, reason, retryable=True)

    def _may_begin(self, name: str, case: Case) -> bool:
        """Count that a step begins, where this process does not merely try again; whether it may."""
        beginning = (case.case_id, case.attempt, name)
        if beginning not in self._begun:
            if self._cases.count_start(case.case_id, name, attempt=case.attempt) > STARTS_PER_STEP:
                return False
            self._begun.add(beginning)
        return True

    def give_up(self, case: Case, reason: str, *, retryable: bool) -> None:
        """End an attempt: a further one where the error may pass and attempts are left, else the case is held."""
        if retryable and case.attempt < self._attempts:
            _log.warning("attempt failed", case=case.case_id[:12], attempt=case.attempt, reason=reason)
            words = f"attempt {case.attempt} failed: {reason}"
            self._cases.next_attempt(case.case_id, self._clock(), words, attempt=case.attempt)
        else:
            self._hold(case, reason)

    def _hold(self, case: Case, reason: str) -> None:
        _log.warning("case held", case=case.case_id[:12], reason=reason)
        self._cases.advance(case.case_id, "held", self._clock(), reason, attempt=case.attempt)
