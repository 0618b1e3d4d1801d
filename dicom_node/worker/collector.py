"""From a quiet series to a case on record: routed, identified, exactly once."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.errors import NodeError
from dicom_node.ledger.cases import Case, Cases
from dicom_node.ledger.intake import Instance, Intake, QuietSeries
from dicom_node.logs import get_logger
from dicom_node.receive.spool import Spool
from dicom_node.route.rules import Decision, Router
from dicom_node.workflow import case_identity, decide_series, read_headers

_log = get_logger("worker")


class Collector:
    """Opens cases.

    Args:
        intake: What was received.
        cases: Where cases are put on record.
        spool: Where the instances lie.
        router: Which card, which destinations.
        quiet_seconds: How long a series and its associations must have been silent.
    """

    def __init__(self, intake: Intake, cases: Cases, spool: Spool, router: Router, *, quiet_seconds: float) -> None:
        self._intake = intake
        self._cases = cases
        self._spool = spool
        self._router = router
        self._quiet_seconds = quiet_seconds

    def open_cases(self, now: float) -> int:
        """Open a case for every series that is quiet; returns how many are new."""
        return sum(self._open(series, now) for series in self._intake.quiet_series(now, self._quiet_seconds))

    def _open(self, series: QuietSeries, now: float) -> bool:
        instances = self._intake.instances_of(series.series_instance_uid)
        decision, refusal = self._decide(instances, series)
        case = Case(
            case_id=case_identity([item.sop_instance_uid for item in instances], decision.card if decision else None),
            study_instance_uid=series.study_instance_uid,
            series_instance_uid=series.series_instance_uid,
            instances=[item.sop_instance_uid for item in instances],
            calling_ae=series.calling_ae,
            address=series.address,
            rule=decision.rule if decision else None,
            card=decision.card if decision else None,
            destinations=list(decision.destinations) if decision else [],
            priority=decision.priority if decision else "routine",
            state="waiting" if decision else "held",
            reason=refusal,
            last_image_at=max(item.received_at for item in instances),
            created_at=now,
            updated_at=now,
            finished_at=None if decision else now,
        )
        is_new = self._cases.open(case)
        if is_new:
            _log.info("case opened", case=case.case_id[:12], card=case.card, instances=len(instances), state=case.state)
        return is_new

    def _decide(self, instances: Sequence[Instance], series: QuietSeries) -> tuple[Decision | None, str | None]:
        try:
            headers = read_headers([self._spool.root / item.path for item in instances])
            return decide_series(self._router, headers, series.calling_ae), None
        except NodeError as error:
            return None, error.message
        except Exception as error:  # noqa: BLE001 - one series that cannot be read must not keep others from being opened
            _log.exception("series not routed", series=series.series_instance_uid)
            return None, f"it could not be routed ({type(error).__name__}); the log says where"
