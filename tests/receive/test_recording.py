"""Many associations, one disk: instances go on record together, and nobody is told before his own is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import OperationalError

from dicom_node.ledger.intake import Instance
from dicom_node.receive.recording import Recorder
from tests.peers import wait_until
from tests.receive.desk import Desk, instance_record

THREADS = 4


class SlowLedger:
    """In the place of the intake: a commit takes as long as the test wants."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.may_commit = threading.Event()
        self.commits: list[list[str]] = []
        self.known: set[str] = set()
        self._error = error

    def record_all(self, instances: Sequence[Instance], is_in_place: object) -> list[bool]:
        self.commits.append([instance.sop_instance_uid for instance in instances])
        assert self.may_commit.wait(30)
        if self._error is not None and instances:
            raise self._error
        are_new = [instance.sop_instance_uid not in self.known for instance in instances]
        self.known |= {instance.sop_instance_uid for instance in instances}
        return are_new


def recorded_together(ledger: SlowLedger, uids: Sequence[str]) -> list[bool | BaseException]:
    """What each of those who record at the same time is told, the first one while the others queue up."""
    recorder = Recorder(ledger)  # type: ignore[arg-type]

    def record(uid: str) -> bool | BaseException:
        try:
            return recorder.record(instance_record(uid))
        except BaseException as error:  # noqa: BLE001 - whatever they are told is what is tested
            return error

    with ThreadPoolExecutor(len(uids)) as pool:
        first = pool.submit(record, uids[0])
        assert wait_until(lambda: len(ledger.commits) == 1)
        others = [pool.submit(record, uid) for uid in uids[1:]]
        assert wait_until(lambda: len(recorder._queue) == len(others))
        assert not any(each.done() for each in (first, *others)), "told before the commit"
        ledger.may_commit.set()
        return [each.result(30) for each in (first, *others)]


def test_what_queues_up_during_a_commit_is_committed_at_once() -> None:
    ledger = SlowLedger()
    assert recorded_together(ledger, ["1.1", "1.2", "1.3", "1.4"]) == [True] * THREADS
    assert [sorted(commit) for commit in ledger.commits] == [["1.1"], ["1.2", "1.3", "1.4"]]


def test_each_learns_whether_his_own_instance_was_new() -> None:
    ledger = SlowLedger()
    assert sorted(recorded_together(ledger, ["1.1", "1.2", "1.1"])[1:]) == [False, True]  # type: ignore[type-var]


def test_a_failed_commit_is_told_to_all_whose_instances_it_held() -> None:
    error = OperationalError("INSERT", {}, Exception("database is locked"))
    assert recorded_together(SlowLedger(error), ["1.1", "1.2", "1.3"]) == [error] * 3


def test_nobody_is_told_of_a_commit_that_was_broken_off() -> None:
    told = recorded_together(SlowLedger(KeyboardInterrupt()), ["1.1", "1.2", "1.3"])
    assert [each for each in told if not isinstance(each, BaseException)] == []


@pytest.mark.parametrize("size", [1, 5])
def test_the_ledger_counts_a_series_once_for_each_new_instance(desk: Desk, size: int) -> None:
    instances = [instance_record(f"1.{number}") for number in range(size)]
    assert desk.intake.record_all([*instances, instances[0]]) == [True] * size + [False]
    assert len(desk.intake.instances_of(instances[0].series_instance_uid)) == size
