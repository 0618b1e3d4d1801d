"""What the ledger says about the node, as Prometheus reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from dicom_node.ledger.audit_events import AuditEvents, audited
from dicom_node.ledger.audit_facts import application
from dicom_node.ledger.counters import STEP_SECONDS, STEPS, Counters, step_counts
from dicom_node.ledger.database import open_database
from dicom_node.monitoring.measurements import LedgerMeasurements
from dicom_node.settings import parse_settings


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    tables = {"node": {"home": str(tmp_path)}, "audit": {"file": str(tmp_path / "trail")}}
    settings = parse_settings(tables, origin="test")
    return audited(open_database(settings.database_url), settings)


def measured(engine: sa.Engine, now: float = 1000.0) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels, after a way through the text that is served."""

    class Collector:
        def collect(self) -> object:
            return LedgerMeasurements(engine, ("waiting",)).collect(now)

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    families = text_string_to_metric_families(generate_latest(registry).decode())
    samples = [sample for family in families for sample in family.samples]
    return {(each.name, *(each.labels[key] for key in sorted(each.labels))): each.value for each in samples}


def test_seconds_of_steps_are_a_histogram(engine: sa.Engine) -> None:
    for seconds in (0.2, 0.5, 7.0, 5000.0):
        Counters(engine).add(step_counts("segment", seconds))
    found, name = measured(engine), "dicom_node_step_seconds"
    bounds = ("0.5", "5", "10", "3600", "+Inf")
    assert [found[f"{name}_bucket", bound, "segment"] for bound in bounds] == [2, 2, 3, 3, 4]
    assert found[f"{name}_count", "segment"] == 4
    assert found[f"{name}_sum", "segment"] == pytest.approx(5007.7)


def test_what_was_counted_without_buckets_is_in_the_last_one(engine: sa.Engine) -> None:
    Counters(engine).add({(STEP_SECONDS, "encode"): 3.0, (STEPS, "encode"): 1})
    found = measured(engine)
    assert found["dicom_node_step_seconds_count", "encode"] == 1
    assert sum(value for (name, *_), value in found.items() if name == "dicom_node_step_seconds_bucket") == 1


def test_what_the_audit_trail_still_has_to_tell_is_counted(engine: sa.Engine) -> None:
    pending, oldest = ("dicom_node_audit_pending_events",), ("dicom_node_audit_oldest_pending_seconds",)
    assert (measured(engine)[pending], measured(engine)[oldest]) == (0, 0)
    for at in (400.0, 900.0):
        AuditEvents(engine).record(at, application("worker", started=True))
    assert (measured(engine)[pending], measured(engine)[oldest]) == (2, 600)
