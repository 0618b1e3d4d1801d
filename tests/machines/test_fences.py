"""A delivery whose worker froze: after it wakes up it sends nothing more and changes no record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.deliver import courier
from dicom_node.deliver.delivery import deliver_once
from dicom_node.deliver.sender import SendOutcome, send
from dicom_node.errors import TakenOver
from dicom_node.ledger.deliveries import Deliveries, Delivery
from tests.peers import storescp
from tests.phantoms import PhantomSpec, build

pytestmark = pytest.mark.peer
CASE_ID = "case"


def planned(folder: Path, deliveries: Deliveries) -> list[Delivery]:
    rows = []
    for dataset in build(PhantomSpec(slices=3)).datasets:
        path = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        rows.append(Delivery(CASE_ID, "store", str(dataset.SOPInstanceUID), str(dataset.SOPClassUID), str(path)))
    deliveries.plan(rows)
    return rows


def test_a_worker_that_lost_its_claim_sends_and_records_nothing_more(
    ledger: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries = Deliveries(ledger)
    planned(tmp_path, deliveries)
    sent = 0

    def send_and_freeze(*arguments: object, before_each: object, **options: object) -> tuple[SendOutcome, ...]:
        def freeze_after_the_first() -> None:
            nonlocal sent
            if sent == 1:
                deliveries.claimed("case to store", "other")
            before_each()  # type: ignore[operator]
            sent += 1

        return send(*arguments, before_each=freeze_after_the_first, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(courier, "send", send_and_freeze)
    with storescp(tmp_path / "peer") as peer:
        with pytest.raises(TakenOver):
            deliver_once(peer.destination, deliveries.claimed("case to store", "frozen"), CASE_ID, 1.0, calling_ae="N")
        assert len(list(peer.folder.iterdir())) == 1
        states = [(row.state, row.attempts) for row in deliveries.of_case(CASE_ID)]
        assert states == [("waiting", 1)] * 3
        monkeypatch.undo()
        outcome = deliver_once(peer.destination, deliveries.claimed("case to store", "a"), CASE_ID, 2.0, calling_ae="N")
        assert outcome.outcome == "confirmed"
        assert len(list(peer.folder.iterdir())) == 3


def test_the_record_of_who_claims_later_stands(ledger: sa.Engine, tmp_path: Path) -> None:
    deliveries = Deliveries(ledger)
    row = planned(tmp_path, deliveries)[0]
    frozen, later = deliveries.claimed("case to store", "frozen"), deliveries.claimed("case to store", "later")
    later.update(replace(row, state="confirmed", attempts=1))
    with pytest.raises(TakenOver):
        frozen.update(replace(row, state="failed", attempts=1))
    kept = {item.sop_instance_uid: item.state for item in deliveries.of_case(CASE_ID)}
    assert kept[row.sop_instance_uid] == "confirmed"
