"""The judge sees what it is there for: each kind of damage, made on purpose, is named."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.ledger.cases import Case, Cases
from dicom_node.ledger.intake import Association, Instance, Intake
from tests.crash.invariants import Judgement, judge
from tests.ledger.test_cases import CASE
from tests.ledger.test_intake import INSTANCE
from tests.phantoms import PhantomSpec, build

RESULT = "1.2.3.99"


@dataclass
class Scene:
    """One acknowledged image, in one finished case whose one result has arrived."""

    ledger: sa.Engine
    sent: Path
    record: Instance
    case: Case

    def judged(self, *stored: str) -> Judgement:
        return judge(self.ledger, [self.sent], {"pacs": stored or (RESULT,)})


@pytest.fixture
def scene(ledger: sa.Engine, tmp_path: Path) -> Scene:
    dataset = build(PhantomSpec(slices=1)).datasets[0]
    sent, spooled = tmp_path / "sent.dcm", tmp_path / "spooled.dcm"
    for path in (sent, spooled):
        dataset.save_as(path, enforce_file_format=True)
    uid = str(dataset.SOPInstanceUID)
    digest = hashlib.sha256(spooled.read_bytes()).hexdigest()
    record = replace(INSTANCE, sop_instance_uid=uid, path=str(spooled), sha256=digest)
    case = replace(CASE, instances=[uid], state="done", outputs={"results": [{"sop_instance_uid": RESULT}]})
    return Scene(ledger, sent, record, case)


def on_record(scene: Scene, *cases: Case) -> Scene:
    intake = Intake(scene.ledger)
    intake.open_association(Association("a", "listener", "SCANNER", "127.0.0.1", 999.0))
    intake.record(scene.record)
    opened = Cases(scene.ledger)
    for number, case in enumerate(cases or (scene.case,)):
        opened.open(replace(case, series_instance_uid=f"1.2.9.{number}"))
    return scene


def test_a_clean_node_is_clean(scene: Scene) -> None:
    assert on_record(scene).judged().is_clean


def test_an_image_that_is_not_on_record_is_lost(scene: Scene) -> None:
    Cases(scene.ledger).open(scene.case)
    assert "not on record" in scene.judged().lost[0]


def test_an_image_in_no_case_is_lost(scene: Scene) -> None:
    other = replace(scene.case, instances=["1.2.3"])
    assert "is in no case" in on_record(scene, other).judged().lost[0]


def test_a_changed_or_missing_file_is_lost(scene: Scene) -> None:
    on_record(scene)
    Path(scene.record.path).write_bytes(b"something else")
    assert "not what was recorded" in scene.judged().lost[0]
    Path(scene.record.path).unlink()
    assert "not what was recorded" in scene.judged().lost[0]


def test_an_image_in_two_cases_is_duplicated(scene: Scene) -> None:
    twin = replace(scene.case, case_id="ef" * 32)
    assert "2 cases that count" in on_record(scene, scene.case, twin).judged().duplicated[0]


def test_a_superseded_case_does_not_count(scene: Scene) -> None:
    older = replace(scene.case, case_id="ef" * 32, state="superseded", outputs={})
    assert on_record(scene, scene.case, older).judged().is_clean


def test_results_are_there_once_and_known(scene: Scene) -> None:
    on_record(scene)
    assert "is there 2 times" in scene.judged(RESULT, RESULT).duplicated[0]
    assert "no case knows 9.9" in scene.judged(RESULT, "9.9").duplicated[0]
    assert f"result {RESULT} is not there" in scene.judged("9.9").lost[0]


@pytest.mark.parametrize("state", ["held", "segmenting"])
def test_what_needs_a_hand_is_stuck(scene: Scene, state: str) -> None:
    stuck = replace(scene.case, state=state, outputs={}, reason="a gap")  # type: ignore[arg-type]
    assert f"is {state}: a gap" in on_record(scene, stuck).judged().stuck[0]
