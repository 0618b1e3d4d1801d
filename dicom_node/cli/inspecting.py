"""``route``, ``echo``, ``health``, ``conformance``: asking, with nothing done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from dicom_node.cli.printing import print_json, print_table
from dicom_node.conformance import conformance_statement, to_html, to_markdown
from dicom_node.deliver.association import sop_class_name
from dicom_node.deliver.courier import courier_to
from dicom_node.errors import DeliveryFailed, InputRefused, NodeUnwell, SettingsError, UsageError
from dicom_node.imaging.instances import Instance, find_instances, read_dataset
from dicom_node.profiles import require_profiles
from dicom_node.route.rules import Router, compile_rules
from dicom_node.settings import Settings

_HEALTH_SECONDS: Final = 8.0
_LOCAL: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask one that listens everywhere
_FORMATS = {"markdown": to_markdown, "html": to_html}


def run_route(settings: Settings, paths: Sequence[Path], *, sender: str, as_json: bool) -> None:
    """Print, for every series in the files, which rule matches and why each earlier one does not.

    Raises:
        InputRefused: None of the files is an image.
    """
    router = compile_rules(settings)
    discovery = find_instances(paths)
    for passed in discovery.passed_over:
        sys.stderr.write(f"{passed.path}: {passed.reason}\n")
    if not discovery.series:
        raise InputRefused("none of the files is a DICOM image")
    documents = [_route_one(router, group.instances[0], sender) for group in discovery.series]
    if as_json:
        print_json(documents)
        return
    for group, document in zip(discovery.series, documents, strict=True):
        print_table(group.description, ("", ""), list(_outcome(document)))
        rows = [(item["rule"], "matched" if item["matched"] else "", item["reason"]) for item in document["trace"]]
        print_table("rules in order", ("rule", "", "why"), rows)


def run_echo(settings: Settings, name: str, *, as_json: bool) -> None:
    """Print whether a destination answers and which of our SOP classes it accepts.

    Raises:
        UsageError: The settings name no such destination.
        DeliveryFailed: It does not answer.
    """
    found = [item for item in settings.destinations if item.name == name]
    if not found:
        names = ", ".join(item.name for item in settings.destinations) or "none"
        raise UsageError(f'no destination "{name}": the destinations are {names}')
    report = courier_to(found[0], settings.node.ae_title).echo()
    if as_json:
        print_json(vars(report))
    elif report.reachable:
        yes = "yes" if report.negotiates else "not said before it is sent"
        rows = [
            (sop_class_name(sop_class), yes if accepted else "no") for sop_class, accepted in report.accepted.items()
        ]
        rows += [
            ("queries, to confirm arrival", "yes" if report.confirms else "no"),
            ("storage commitment", "yes" if report.commits else "no"),
        ]
        print_table(f"{name} answers", ("SOP class", "accepted"), rows)
    if not report.reachable:
        raise DeliveryFailed(f"{name} ({found[0].address}) does not answer: {report.reason}")


def run_health(settings: Settings, question: str) -> None:
    """Print what the endpoint of the node on this machine says.

    Args:
        settings: ``[monitoring]`` says where the endpoint is.
        question: ``health`` or ``ready``.

    Raises:
        SettingsError: ``[monitoring] port`` is not set.
        NodeUnwell: It answers that it is not well, with the reasons, or does not answer.
    """
    monitoring = settings.monitoring
    if monitoring.port is None:
        raise SettingsError("[monitoring] port is not set: set it to have health and readiness served")
    address = _LOCAL.get(monitoring.bind, monitoring.bind)
    connection = HTTPConnection(address, monitoring.port, timeout=_HEALTH_SECONDS)
    try:
        connection.request("GET", f"/{question}")
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (OSError, HTTPException, ValueError) as error:
        words = f"the endpoint at {address} port {monitoring.port} does not answer: {type(error).__name__}"
        raise NodeUnwell(words) from error
    finally:
        connection.close()
    for warning in document.get("warnings", ()):
        sys.stderr.write(f"warning: {warning}\n")
    if answer.status != HTTPStatus.OK:
        raise NodeUnwell("; ".join(document["reasons"]))
    sys.stdout.write(f"{question}: yes\n")


def run_conformance(settings: Settings, *, form: str, output: Path | None) -> None:
    """Print the conformance statement of these settings, or write it to a file.

    Args:
        settings: The configuration.
        form: "markdown" or "html".
        output: The file; standard output where None.

    Raises:
        SettingsError: The settings could not run.
        UsageError: There is no such format, or the file cannot be written.
    """
    if form not in _FORMATS:
        raise UsageError(f'no format "{form}"; the formats are {", ".join(_FORMATS)}')
    require_profiles(settings)
    compile_rules(settings)
    text = _FORMATS[form](conformance_statement(settings))
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from error


def _route_one(router: Router, instance: Instance, sender: str) -> dict[str, Any]:
    header = read_dataset(instance.path, stop_before_pixels=True)
    trace = router.explain(header, sender)
    document: dict[str, Any] = {
        "series_instance_uid": str(header.SeriesInstanceUID),
        "file": str(instance.path),
        "trace": [{"rule": item.rule, "matched": item.matched, "reason": item.why or item.why_not} for item in trace],
    }
    try:
        decision = router.decide(header, sender)
    except InputRefused as refusal:
        return {**document, "refused": refusal.message}
    return {
        **document,
        "rule": decision.rule,
        "card": decision.card,
        "card_reason": decision.card_reason,
        "destinations": list(decision.destinations),
        "priority": decision.priority,
    }


def _outcome(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "refused" in document:
        yield "held", document["refused"]
        return
    yield "rule", document["rule"]
    yield "card", f"{document['card']} ({document['card_reason']})"
    yield "to", ", ".join(document["destinations"]) or "nowhere: results stay on disk"
    yield "priority", document["priority"]
