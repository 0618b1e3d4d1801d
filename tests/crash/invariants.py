"""What must hold after any number of kills, judged from files and records alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pydicom
import sqlalchemy as sa

from dicom_node.ledger.cases import FINAL_STATES, Case, Cases
from dicom_node.ledger.intake import Intake


@dataclass(frozen=True)
class Judgement:
    """What was found; every list is to be empty.

    Attributes:
        lost: Acknowledged, but not on record as it was sent, or in no case that counts; or a result that is nowhere.
        duplicated: In two cases that count, or a result that is there twice, or that no case knows.
        stuck: Series and cases that neither ended nor go on, and cases that a person would have to look at.
    """

    lost: list[str]
    duplicated: list[str]
    stuck: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.duplicated or self.stuck)


def judge(ledger: sa.Engine, acknowledged: Collection[Path], stores: Mapping[str, Iterable[str]]) -> Judgement:
    """Judge a node that has come to rest.

    Args:
        ledger: Its ledger.
        acknowledged: Files that senders got Success for.
        stores: By destination, the SOP Instance UIDs of what lies there, one for each file.
    """
    cases = Cases(ledger).list()
    lost, duplicated = _instances(Intake(ledger), cases, acknowledged)
    for destination, held in stores.items():
        _results(cases, destination, Counter(held), lost, duplicated)
    stuck = [f"case {case.case_id[:12]} is {case.state}: {case.reason}" for case in cases if _needs_a_hand(case)]
    return Judgement(lost, duplicated, stuck)


def _counts(case: Case) -> bool:
    return case.state != "superseded" and not str(case.reason).startswith("superseded")


def _needs_a_hand(case: Case) -> bool:
    return case.state not in FINAL_STATES or case.state == "held"


def _instances(intake: Intake, cases: Iterable[Case], acknowledged: Iterable[Path]) -> tuple[list[str], list[str]]:
    lost, duplicated = [], []
    of_instance = Counter(uid for case in cases if _counts(case) for uid in case.instances)
    for sent in acknowledged:
        dataset = pydicom.dcmread(sent)
        uid = str(dataset.SOPInstanceUID)
        record = intake.find(uid)
        if record is None:
            lost.append(f"{uid} was acknowledged but is not on record")
        elif not Path(record.path).is_file() or _sha256(Path(record.path)) != record.sha256:
            lost.append(f"{uid} is on record, but its file is not what was recorded")
        elif pydicom.dcmread(record.path).PixelData != dataset.PixelData:
            lost.append(f"{uid} is not what was sent")
        elif of_instance[uid] == 0:
            lost.append(f"{uid} is in no case")
        if of_instance[uid] > 1:
            duplicated.append(f"{uid} is in {of_instance[uid]} cases that count")
    return lost, duplicated


def _results(
    cases: Iterable[Case], destination: str, held: Counter[str], lost: list[str], duplicated: list[str]
) -> None:
    known: set[str] = set()
    for case in cases:
        results = {str(result["sop_instance_uid"]) for result in case.outputs.get("results", [])}
        known |= results
        if case.state == "done":
            lost += [f"{destination}: result {uid} is not there" for uid in sorted(results - held.keys())]
    duplicated += [f"{destination}: {uid} is there {count} times" for uid, count in held.items() if count > 1]
    duplicated += [f"{destination}: no case knows {uid}" for uid in sorted(held.keys() - known)]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
