"""``dicom-node cases``: what became of every series."""

from __future__ import annotations

import time
from typing import Any, get_args

from dicom_node.cli.printing import local_time, print_json, print_table
from dicom_node.errors import UsageError
from dicom_node.ledger.audit_events import audited
from dicom_node.ledger.cases import Case, Cases, CaseState
from dicom_node.ledger.database import open_existing_database
from dicom_node.ledger.deliveries import Deliveries
from dicom_node.process import login_name
from dicom_node.rerun import run_case_again
from dicom_node.settings import Settings


def run_list(settings: Settings, *, states: list[str], as_json: bool) -> None:
    """Print every case, or those in the given states.

    Raises:
        UsageError: There is no such state.
    """
    unknown = sorted(set(states) - set(get_args(CaseState)))
    if unknown:
        raise UsageError(f"no state {', '.join(unknown)}: the states are {', '.join(get_args(CaseState))}")
    cases = Cases(open_existing_database(settings.database_url)).list(states)
    if as_json:
        print_json([{**vars(case), "instances": len(case.instances)} for case in cases])
        return
    rows = [
        (case.case_id[:12], case.state, case.card, len(case.instances), local_time(case.last_image_at), case.reason)
        for case in cases
    ]
    print_table(f"{len(cases)} cases", ("case", "state", "card", "images", "last image", "reason"), rows)


def run_show(settings: Settings, case_id: str, *, as_json: bool) -> None:
    """Print one case with its timings, results and deliveries."""
    database = open_existing_database(settings.database_url)
    cases = Cases(database)
    case = cases.get(case_id)
    removed = {what: local_time(at) for what, at in cases.removed(case.case_id).items()}
    deliveries = [vars(item) for item in Deliveries(database).of_case(case.case_id)]
    document = {**vars(case), "seconds": timings_of(case), "deliveries": deliveries, "removed": removed}
    if as_json:
        print_json(document)
        return
    facts = ("case_id", "state", "reason", "attempt", "series_instance_uid", "calling_ae", "rule", "card", "priority")
    print_table("case", ("", ""), [(name, document[name]) for name in facts])
    print_table("seconds", ("step", "seconds"), list(timings_of(case).items()))
    if removed:
        print_table("removed by retention", ("what", "when"), list(removed.items()))
    print_table("outputs", ("", ""), [(name, value) for name, value in case.outputs.items() if name != "results"])
    results = case.outputs.get("results", [])
    print_table("results", ("kind", "file", "SHA-256"), [(r["kind"], r["path"], r["sha256"][:16]) for r in results])
    columns = ("destination", "SOP instance", "state", "attempts", "message")
    rows = [(d["destination"], d["sop_instance_uid"], d["state"], d["attempts"], d["message"]) for d in deliveries]
    print_table("deliveries", columns, rows)


def run_retry(settings: Settings, case_id: str, *, as_json: bool) -> None:
    """Make a held or discarded case run again; the worker takes it up.

    Destinations that the settings no longer name are left out. Results that were verified are delivered, not made anew.

    Raises:
        UsageError: There is no such case, it is not held or discarded, or none of its destinations is left.
    """
    database = open_existing_database(settings.database_url)
    again = run_case_again(settings, database, case_id, time.time(), person=login_name())
    _print_outcome(again, as_json=as_json)


def run_discard(settings: Settings, case_id: str, *, as_json: bool) -> None:
    """Give a case up."""
    cases = Cases(audited(open_existing_database(settings.database_url), settings))
    _print_outcome(cases.discard(case_id, time.time(), person=login_name()), as_json=as_json)


def timings_of(case: Case) -> dict[str, float]:
    """Seconds of a case by step, from its last image to its end."""
    steps = {step: seconds for step, seconds in case.timings.items() if not step.endswith(".starts")}
    timings: dict[str, float] = {"quiet": round(case.created_at - case.last_image_at, 3), **steps}
    if case.finished_at is not None:
        timings["last image to end"] = round(case.finished_at - case.last_image_at, 3)
    return timings


def _print_outcome(case: Case, *, as_json: bool) -> None:
    outcome: dict[str, Any] = {"case_id": case.case_id, "state": case.state, "attempt": case.attempt}
    if as_json:
        print_json(outcome)
    else:
        print_table("case", tuple(outcome), [tuple(outcome.values())])
