"""What is wrong with a destination, said when the worker starts rather than when the first result is due.

Nothing waits for it, and nothing depends on it: a destination that is down now may be up when there is a result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from dicom_node.deliver.association import sop_class_name
from dicom_node.deliver.courier import courier_to
from dicom_node.deliver.echo import EchoReport
from dicom_node.logs import get_logger
from dicom_node.profiles import Profile, profile_named
from dicom_node.settings import Destination, Settings
from dicom_node.uids import RT_STRUCTURE_SET, SECONDARY_CAPTURE, SEGMENTATION

_log = get_logger("worker")


def _echo(destination: Destination, calling_ae: str) -> EchoReport:
    return courier_to(destination, calling_ae).echo()


def preflight(
    settings: Settings, ask: Callable[[Destination, str], EchoReport] = _echo
) -> tuple[threading.Thread, ...]:
    """Ask every configured destination whether it answers and log what is wrong; returns at once.

    The embedded archive starts beside the worker and is not asked.

    Args:
        settings: Name the destinations, and their profiles, which are known to be there.
        ask: Asks it; gets the destination and our AE title.

    Returns:
        The threads that ask, one a destination.
    """
    askers = tuple(
        threading.Thread(target=_ask, args=(settings, table, ask), name=f"echo {table.name}", daemon=True)
        for table in settings.destination
    )
    for asker in askers:
        asker.start()
    return askers


def _ask(settings: Settings, table: Destination, ask: Callable[[Destination, str], EchoReport]) -> None:
    try:
        report = ask(table, settings.node.ae_title)
        profile = profile_named(settings, table.profile, f'destination "{table.name}"')
    except Exception:  # noqa: BLE001 - a question that breaks must not pass for an answer, and the worker goes on
        _log.exception("destination not asked", destination=table.name)
        return
    faults = list(faults_of(report, profile))
    for reason, advice in faults:
        _log.warning("destination will not take results", destination=table.name, reason=reason, advice=advice)
    if report.reachable and table.confirm == "commitment" and not report.commits:
        advice = "C-FIND is asked in its place; let the peer offer the Storage Commitment Push Model, or set confirm"
        _log.warning("destination offers no storage commitment", destination=table.name, advice=advice)
    if not faults:
        _log.info("destination answers", destination=table.name)


def faults_of(report: EchoReport, profile: Profile) -> Iterator[tuple[str, str]]:
    """What is wrong, and what to do about it.

    Args:
        report: What the destination said.
        profile: What results for it are made like.
    """
    if not report.reachable:
        yield (
            report.reason,
            "results are sent again for hours; check its address, AE titles or password, and that it knows this node",
        )
        return
    for sop_class in _needed(profile):
        if not report.accepted.get(sop_class, False):
            yield (
                f"it does not accept {sop_class_name(sop_class)} ({sop_class})",
                "let the peer accept this SOP class, or leave it out of the results of its profile",
            )


def _needed(profile: Profile) -> Iterator[str]:
    """SOP classes without which a destination cannot get what its profile asks for.

    A label map is not needed: where it is not accepted the binary segmentation goes in its place.
    """
    if "SEG" in profile.results:
        yield SEGMENTATION
    if "RTSTRUCT" in profile.results:
        yield RT_STRUCTURE_SET
    if "SC" in profile.results:
        yield SECONDARY_CAPTURE
