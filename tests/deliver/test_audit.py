"""What the audit trail learns of a delivery: the attempt, each result that arrived or was refused, each question."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from dicom_node.deliver.delivery import deliver_once
from dicom_node.ledger import database as db
from dicom_node.ledger.audit_events import audited
from dicom_node.ledger.deliveries import Deliveries
from dicom_node.settings import parse_settings
from tests.deliver.scripted_peer import scripted_peer
from tests.deliver.scripted_service import scripted_service
from tests.deliver.test_delivery import CASE, attempt, plan
from tests.peers import CALLING_AE, Peer


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    tables = {"node": {"home": str(tmp_path)}, "audit": {"file": str(tmp_path / "trail")}}
    settings = parse_settings(tables, origin="test")
    return audited(db.open_database(settings.database_url), settings)


def told(engine: sa.Engine) -> list[tuple[str, Any]]:
    """Kind of each event, and how many instances arrived, or why one did not."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(db.audit_events.c.kind, db.audit_events.c.facts).order_by("id")).all()
    return [(row.kind, row.facts.get("failure") or sum(row.facts.get("classes", {}).values())) for row in rows]


@pytest.mark.peer
def test_a_delivery_is_told_from_its_beginning_to_its_proof(
    dcmqrscp_peer: Peer, engine: sa.Engine, objects: list[Path]
) -> None:
    deliveries = Deliveries(engine)
    plan(deliveries, dcmqrscp_peer.destination.name, objects)
    assert attempt(dcmqrscp_peer, deliveries).outcome == "confirmed"
    assert told(engine) == [("sending", 3), *[("sent", 1)] * 3, *[("queried", 0)] * 3]


@pytest.mark.peer
def test_what_arrived_before_a_kill_is_told_when_it_is_found(
    dcmqrscp_peer: Peer, engine: sa.Engine, objects: list[Path]
) -> None:
    """Killed between the destination's answer and our record of it."""
    deliveries = Deliveries(engine)
    uids = plan(deliveries, dcmqrscp_peer.destination.name, objects)
    assert attempt(dcmqrscp_peer, deliveries).outcome == "confirmed"
    with engine.begin() as connection:
        connection.execute(sa.update(db.deliveries).values(state="waiting"))
        connection.execute(sa.delete(db.audit_events))
    assert attempt(dcmqrscp_peer, deliveries).outcome == "confirmed"
    assert told(engine) == [*[("queried", 0)] * 3, *[("sent", 1)] * len(uids)]


def test_a_service_is_told_to_be_asked_by_the_request_that_it_gets(engine: sa.Engine, objects: list[Path]) -> None:
    deliveries = Deliveries(engine)
    with scripted_service() as service:
        plan(deliveries, service.destination.name, objects[:1])
        deliver_once(service.destination, deliveries, CASE, 1000.0, calling_ae=CALLING_AE)
        asked = [f"{service.destination.url.removesuffix(urlsplit(service.destination.url).path)}{service.queries[0]}"]
    with engine.connect() as connection:
        facts = connection.execute(sa.select(db.audit_events.c.facts).where(db.audit_events.c.kind == "queried"))
        assert [each["uri"] for each in facts.scalars()] == asked


def test_a_result_that_is_refused_is_told_with_the_reason(
    engine: sa.Engine, objects: list[Path], tmp_path: Path
) -> None:
    deliveries = Deliveries(engine)
    with scripted_peer() as peer:
        peer.statuses = [0xA900]
        plan(deliveries, peer.destination.name, objects[:1])
        assert attempt(peer, deliveries).outcome == "held"
    (_, begun), (kind, failure) = told(engine)
    assert (begun, kind) == (1, "sent")
    assert failure.startswith("not stored, C-STORE status A900")
