"""Having a case run again, because a person wants it."""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.errors import UsageError
from dicom_node.ledger.audit_events import audited
from dicom_node.ledger.cases import Case, Cases
from dicom_node.ledger.deliveries import drop, renew, reset
from dicom_node.settings import SENDER, Settings


def run_case_again(
    settings: Settings, database: sa.Engine, case_id: str, now: float, *, also_done: bool = False, person: str = ""
) -> Case:
    """Make a held or discarded case run again; the worker takes it up.

    Destinations that the settings no longer name are left out. Results that were verified are delivered, not made anew.

    Args:
        settings: Today's destinations.
        database: The ledger.
        case_id: Identity of the case, or the beginning of it.
        now: Seconds since the epoch.
        also_done: Whether a case that is done may run again, too: its results go to the destinations that lack them.
        person: Who wants it, for the audit trail.

    Raises:
        UsageError: There is no such case, it may not run again, or none of its destinations is left.
    """
    database = audited(database, settings)
    cases = Cases(database)
    case = cases.get(case_id)
    known = {SENDER, *(item.name for item in settings.destinations)}
    kept = [name for name in case.destinations if name in known]
    if case.destinations and not kept:
        raise UsageError(f"case {case.case_id[:12]}: the settings name none of {', '.join(case.destinations)} any more")

    def begin_anew(connection: sa.Connection) -> None:
        drop(connection, case.case_id, [name for name in case.destinations if name not in known])
        (renew if case.state == "done" else reset)(connection, case.case_id)

    return cases.retry(case.case_id, now, kept, also_done=also_done, person=person, also=begin_anew)
