"""What the ledger says about the node, in a few queries, none of which names a patient or a UID."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from dicom_node.ledger import counters as names
from dicom_node.ledger import database as db
from dicom_node.ledger.cases import FINAL_STATES
from dicom_node.ledger.counters import Counters
from dicom_node.ledger.database import reading

_COUNTED = (
    (names.RECEIVED, "dicom_node_received_instances", "Instances answered with Success.", "calling_ae"),
    (names.RECEIVED_BYTES, "dicom_node_received_bytes", "Bytes of their data sets.", "calling_ae"),
    (names.REFUSED, "dicom_node_refused_instances", "Instances answered with another status (PS3.4 B.2.3).", "status"),
    (names.REJECTED, "dicom_node_rejected_associations", "Associations rejected, by reason (PS3.8 9.3.4).", "reason"),
)


@dataclass(frozen=True)
class LedgerMeasurements:
    """Metrics from the ledger.

    Attributes:
        engine: The ledger.
        states: Every state a case can have, so that none is missing where its count is 0.
    """

    engine: sa.Engine
    states: tuple[str, ...]

    def collect(self, now: float) -> Iterator[Metric]:
        """Every metric; ``now`` in seconds since the epoch.

        Raises:
            SQLAlchemyError: The ledger cannot be read.
        """
        yield from self._counted()
        with reading(self.engine) as connection:
            yield from self._cases(connection, now)
            yield from self._deliveries(connection)
            yield from self._intake(connection, now)

    def _counted(self) -> Iterator[Metric]:
        counts = Counters(self.engine).counts()
        for name, metric, text, label in _COUNTED:
            family = CounterMetricFamily(metric, text, labels=[label])
            for value, count in sorted(counts.get(name, {}).items()):
                family.add_metric([value], count)
            yield family
        steps = SummaryMetricFamily("dicom_node_step_seconds", "Seconds of each step of a case.", labels=["step"])
        for step, count in sorted(counts.get(names.STEPS, {}).items()):
            steps.add_metric([step], count_value=int(count), sum_value=counts[names.STEP_SECONDS].get(step, 0.0))
        yield steps

    def _cases(self, connection: sa.Connection, now: float) -> Iterator[Metric]:
        count = sa.select(db.cases.c.state, sa.func.count()).group_by(db.cases.c.state)
        found: dict[str, int] = dict(connection.execute(count).all())
        family = GaugeMetricFamily("dicom_node_cases", "Cases on record, by state.", labels=["state"])
        for state in self.states:
            family.add_metric([state], found.get(state, 0))
        yield family
        oldest = sa.select(sa.func.min(db.cases.c.created_at))
        unfinished = connection.scalar(oldest.where(db.cases.c.state.not_in(FINAL_STATES)))
        waiting = connection.scalar(oldest.where(db.cases.c.state == "waiting"))
        text = "Age of the oldest case that has not ended."
        yield GaugeMetricFamily("dicom_node_oldest_unfinished_case_seconds", text, value=_age(unfinished, now))
        text = "Age of the oldest case that waits for its turn."
        yield GaugeMetricFamily("dicom_node_queue_age_seconds", text, value=_age(waiting, now))

    def _deliveries(self, connection: sa.Connection) -> Iterator[Metric]:
        table = db.deliveries
        statement = sa.select(table.c.destination, table.c.state, sa.func.count(), sa.func.max(table.c.updated_at))
        family = GaugeMetricFamily("dicom_node_deliveries", "Results by destination.", labels=["destination", "state"])
        text = "When a result last arrived, seconds since the epoch."
        success = GaugeMetricFamily("dicom_node_destination_last_success_seconds", text, labels=["destination"])
        text = "When a result that has not arrived since was last refused or failed, seconds since the epoch."
        failure = GaugeMetricFamily("dicom_node_destination_last_failure_seconds", text, labels=["destination"])
        failed: dict[str, float] = {}
        for destination, state, count, at in connection.execute(statement.group_by(table.c.destination, table.c.state)):
            family.add_metric([destination, state], count)
            if state == "confirmed":
                success.add_metric([destination], at)
            elif state in {"failed", "refused"}:
                failed[destination] = max(at, failed.get(destination, at))
        for destination, at in failed.items():
            failure.add_metric([destination], at)
        yield from (family, success, failure)

    def _intake(self, connection: sa.Connection, now: float) -> Iterator[Metric]:
        is_open = db.associations.c.closed_at.is_(None)
        count = connection.scalar(sa.select(sa.func.count()).select_from(db.associations).where(is_open))
        text = "Associations that are storing images."
        yield GaugeMetricFamily("dicom_node_open_associations", text, value=count or 0)
        size = connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(db.instances.c.size), 0)))
        yield GaugeMetricFamily("dicom_node_spool_bytes", "Bytes of the images in the spool.", value=float(size or 0))
        uncased = db.series.c.instances > db.series.c.cased_instances
        oldest = connection.scalar(sa.select(sa.func.min(db.series.c.last_received_at)).where(uncased))
        text = "Since the last image of the series that has waited longest to become a case."
        yield GaugeMetricFamily("dicom_node_oldest_uncased_series_seconds", text, value=_age(oldest, now))


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)
