"""Opening cases: a series that nothing can be made of is put on record as held, and keeps no other back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from dicom_node.ledger.cases import Cases
from dicom_node.route.rules import Router, compile_rules
from dicom_node.settings import parse_settings
from dicom_node.worker.collector import Collector
from tests.machines.site import series_uid, small_series
from tests.receive.desk import SENDER, Desk, arrival_of


class BrittleRouter:
    """A router that breaks over one series."""

    def __init__(self, router: Router, series: str) -> None:
        self._router = router
        self._series = series

    def decide(self, header: Any, sender: str) -> Any:
        if header.SeriesInstanceUID == self._series:
            raise RecursionError("Doe^Jane")
        return self._router.decide(header, sender)


def test_a_series_that_breaks_the_router_is_held_and_the_next_one_is_opened(tmp_path: Path, ledger: sa.Engine) -> None:
    desk = Desk(tmp_path, ledger)
    desk.intake.open_association(SENDER)
    broken, good = small_series(tmp_path, 1), small_series(tmp_path, 2)
    for path in (*broken, *good):
        assert desk.take(arrival_of(path)).status == 0
    desk.intake.close_association(SENDER.association_id, 1000.0)
    settings = parse_settings({"node": {"home": str(tmp_path)}}, origin="test")
    router = cast(Router, BrittleRouter(compile_rules(settings), series_uid(broken)))
    cases = Cases(ledger)
    collector = Collector(desk.intake, cases, desk.spool, router, quiet_seconds=1.0)
    assert collector.open_cases(2000.0) == 2
    states = {case.series_instance_uid: (case.state, case.reason) for case in cases.list()}
    assert states[series_uid(broken)] == ("held", "it could not be routed (RecursionError); the log says where")
    assert states[series_uid(good)] == ("waiting", None)
