"""What the rooms of the node tell the audit trail: events without anything that names a patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.audit_events import AuditEvent
from dicom_node.settings import Destination, DicomwebDestinationTable


def application(role: str, *, started: bool) -> AuditEvent:
    """A process of the node starts or stops (PS3.15 A.5.3.1)."""
    return AuditEvent("application", role, {"role": role, "started": started})


def recording(*, started: bool) -> AuditEvent:
    """The audit trail itself starts or stops (PS3.15 A.5.3.11)."""
    return AuditEvent("recording", "audit", {"started": started})


def received(connection: sa.Connection, association_id: str) -> list[AuditEvent]:
    """What an association that ended has brought: an event for each study (PS3.15 A.5.3.7).

    Instances that were on record before it began are not among them: nothing was kept of what came.
    """
    of_association = db.associations.c.id == association_id
    association = connection.execute(sa.select(db.associations).where(of_association)).one()
    # the index on the time narrows it down to what came while the association was open
    while_open = db.instances.c.received_at >= association.opened_at
    studies = _studies(connection, db.instances.c.association_id == association_id, while_open)
    sender = {"ae_title": association.calling_ae, "address": association.address}
    return [AuditEvent("received", association_id, {"sender": sender, **facts}) for facts in studies]


def sending(destination: Destination, case_id: str, instances: Sequence[tuple[str, str]]) -> AuditEvent:
    """A destination is about to be sent results (PS3.15 A.5.3.3).

    Args:
        destination: Whom.
        case_id: Whose results.
        instances: SOP class UID and file of each.
    """
    return _transfer("sending", destination, case_id, instances, "")


def sent(destination: Destination, case_id: str, sop_class_uid: str, path: str, *, failure: str = "") -> AuditEvent:
    """A destination has a result, or has refused it for the reason given (PS3.15 A.5.3.7)."""
    return _transfer("sent", destination, case_id, [(sop_class_uid, path)], failure)


def queried(destination: Destination, sop_class_uid: str, keys: Mapping[str, str]) -> AuditEvent:
    """A destination is asked by C-FIND for what it holds (PS3.15 A.5.3.10).

    Args:
        destination: Whom.
        sop_class_uid: Of the query.
        keys: Its identifier, by keyword.
    """
    facts = {"destination": _node(destination), "sop_class": sop_class_uid, "keys": dict(keys)}
    return AuditEvent("queried", destination.name, facts)


def searched(destination: DicomwebDestinationTable, uri: str) -> AuditEvent:
    """A DICOMweb service is asked for what it holds (PS3.15 A.5.3.10, PS3.18 10.6).

    Args:
        destination: Whom.
        uri: Of the request, the query included.
    """
    return AuditEvent("queried", destination.name, {"destination": _node(destination), "uri": uri})


def images_read(connection: sa.Connection, case_id: str) -> list[AuditEvent]:
    """The node reads the images of a case (PS3.15 A.5.3.6)."""
    series = sa.select(db.cases.c.series_instance_uid).where(db.cases.c.case_id == case_id).scalar_subquery()
    studies = _studies(connection, db.instances.c.series_instance_uid == series)
    return [AuditEvent("accessed", case_id, {"action": "R", **facts}) for facts in studies]


def results_made(connection: sa.Connection, case_id: str) -> list[AuditEvent]:
    """The node has made results of a case, and verified them (PS3.15 A.5.3.6)."""
    return [AuditEvent("accessed", case_id, {"action": "C", **facts}) for facts in _results(connection, case_id)]


def series_removed(connection: sa.Connection, series_instance_uid: str) -> list[AuditEvent]:
    """The images of a series leave the node for good (PS3.15 A.5.3.8)."""
    studies = _studies(connection, db.instances.c.series_instance_uid == series_instance_uid)
    return [AuditEvent("removed", series_instance_uid, facts) for facts in studies]


def results_removed(connection: sa.Connection, case_id: str, folder: Path) -> list[AuditEvent]:
    """The results of a case leave the node for good; until that is told they lie in this folder."""
    events = []
    for facts in _results(connection, case_id):
        parts = Path(facts["path"]).parts
        path = folder.joinpath(*parts[parts.index(case_id) + 1 :]) if case_id in parts else folder / parts[-1]
        events.append(AuditEvent("removed", subject_of_results(case_id), {**facts, "path": str(path)}))
    return events


def subject_of_results(case_id: str) -> str:
    """What an event that tells of the removal of results is about."""
    return f"results of {case_id}"


def refused(what: str, address: str, reason: str, *, calling_ae: str = "", times: int = 1) -> AuditEvent:
    """Somebody was not let in (PS3.15 A.5.3.11).

    Args:
        what: ``association`` or ``TLS handshake``.
        address: Where from.
        reason: Why, in words.
        calling_ae: Who it said it was, as far as it came to that.
        times: How often lately.
    """
    facts = {"what": what, "address": address, "reason": reason, "calling_ae": calling_ae, "times": times}
    return AuditEvent("refused", what, facts)


def restricted(person: str, what: str) -> AuditEvent:
    """A person of this machine made the node do something that is not its daily work (PS3.15 A.5.3.11)."""
    return AuditEvent("restricted", what[:200], {"person": person, "what": what})


def _studies(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    """By study: how many instances of which SOP class there are, and the file of one of them."""
    table = db.instances
    kinds = table.c.study_instance_uid, table.c.sop_class_uid
    statement = sa.select(*kinds, sa.func.count(), sa.func.min(table.c.path)).where(*which).group_by(*kinds)
    studies: dict[str, dict[str, Any]] = {}
    for study, sop_class, count, path in connection.execute(statement.order_by(*kinds)):
        facts = studies.setdefault(study, {"study": study, "classes": {}, "path": path})
        facts["classes"][sop_class] = int(count)
    return list(studies.values())


def _results(connection: sa.Connection, case_id: str) -> list[dict[str, Any]]:
    row = connection.execute(
        sa.select(db.cases.c.study_instance_uid, db.cases.c.outputs).where(db.cases.c.case_id == case_id)
    ).one()
    results = row.outputs.get("results", [])
    if not results:
        return []
    classes = Counter(result["sop_class_uid"] for result in results)
    return [{"study": row.study_instance_uid, "classes": dict(classes), "path": results[0]["path"]}]


def _transfer(
    kind: Any, destination: Destination, case_id: str, instances: Sequence[tuple[str, str]], failure: str
) -> AuditEvent:
    classes = dict(Counter(sop_class for sop_class, _ in instances))
    facts = {"destination": _node(destination), "classes": classes, "path": instances[0][1], "failure": failure}
    return AuditEvent(kind, f"{case_id} to {destination.name}", facts)


def _node(destination: Destination) -> dict[str, str]:
    if isinstance(destination, DicomwebDestinationTable):
        return {"ae_title": "", "address": urlsplit(destination.url).hostname or ""}
    return {"ae_title": destination.ae_title, "address": destination.host}
