"""Networking (PS3.2 A.4): implementation model, application entities, configuration."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.conformance.acceptor import acceptance
from dicom_node.conformance.contexts import Activity, ContextClaim, sends_back
from dicom_node.conformance.dicomweb import web_services
from dicom_node.conformance.document import Items, Section, Table
from dicom_node.conformance.initiator import initiation
from dicom_node.conformance.words import context_blocks, listening_at
from dicom_node.deliver.courier import SENDERS_AT_ONCE
from dicom_node.receive.connection import MAXIMUM_PDU
from dicom_node.settings import Destination, DicomwebDestinationTable, Settings
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def networking(
    settings: Settings,
    accepted: Sequence[ContextClaim],
    archive: Sequence[ContextClaim],
    initiated: Sequence[Activity],
) -> Section:
    """All of networking."""
    entities = [_node(settings, accepted, initiated), *([_archive(settings, archive)] if archive else [])]
    return Section(
        "Networking",
        (),
        (
            Section("Implementation model", (), _model(settings)),
            Section("Application entity specifications", (), tuple(entities)),
            *web_services(settings),
            Section("Network interfaces", ("TCP/IP, version 4 and 6; no other stack.",)),
            Section("Configuration", (), _configuration(settings)),
        ),
    )


def _model(settings: Settings) -> tuple[Section, ...]:
    flow = [
        "Peer -> C-STORE -> listener -> spool and record: Success is answered once it is on disk and on record.",
        (
            "Spool -> worker: a series that has been quiet for "
            f"{settings.node.quiet_seconds:g} s is proved whole, segmented, encoded, and its results decoded again and "
            "compared."
        ),
        "Worker -> C-STORE -> destination: verified results are sent; commitment or C-FIND proves their arrival.",
        "Peer -> N-ACTION -> listener; worker -> N-EVENT-REPORT -> peer: the node commits to what it keeps.",
        "Destination -> N-EVENT-REPORT -> listener: a destination's report of storage commitment.",
    ]
    if settings.archive.enabled:
        flow.append("Worker -> C-STORE -> embedded archive <- C-FIND, C-GET <- peer.")
    return (
        Section("Application data flow", (Items(tuple(flow)),)),
        Section(
            "Functional definition",
            (
                Items(
                    (
                        (
                            f"{settings.node.ae_title}: accepts images, reports and requests of storage commitment; "
                            "sends results, queries, requests and reports of storage commitment."
                        ),
                        *(
                            [f"{settings.archive.ae_title}: the embedded archive; keeps, lists and gives back results."]
                            if settings.archive.enabled
                            else []
                        ),
                    )
                ),
            ),
        ),
        Section(
            "Sequencing of real-world activities",
            (
                (
                    "Results are sent after the whole series was received and segmented. Slices that come later make a "
                    "new case that supersedes the earlier one. Instances may come over any number of associations and "
                    "in any order."
                ),
            ),
        ),
    )


def _node(settings: Settings, accepted: Sequence[ContextClaim], initiated: Sequence[Activity]) -> Section:
    return Section(
        f"Application entity {settings.node.ae_title}",
        (),
        (
            Section("SOP classes", ("Standard SOP classes; see the presentation contexts below.",)),
            Section("Association policies", (_policies(settings),)),
            initiation(initiated),
            acceptance(settings, accepted),
        ),
    )


def _policies(settings: Settings) -> Table:
    limits = settings.limits
    return Table(
        ("property", "value"),
        (
            ("application context name", "1.2.840.10008.3.1.1.1"),
            ("maximum PDU received, as acceptor", f"{MAXIMUM_PDU} bytes; a longer one ends the connection"),
            ("maximum PDU received, as initiator", "16382 bytes"),
            ("maximum PDU sent", "what the peer asks for"),
            ("simultaneous associations, as acceptor", str(limits.associations)),
            ("simultaneous associations, as initiator", _initiated_at_once(settings)),
            ("asynchronous operations", "not supported: one operation at a time"),
            ("implementation class UID", IMPLEMENTATION_CLASS_UID),
            ("implementation version name", IMPLEMENTATION_VERSION_NAME),
            ("time for a request to arrive", f"{limits.negotiation_seconds:g} s"),
            ("time for a PDU to arrive", f"{limits.pdu_seconds:g} s"),
            ("time without traffic", f"{limits.idle_seconds:g} s, then A-ABORT"),
            ("time for an instance to arrive", f"{limits.instance_seconds:g} s"),
            ("largest instance", f"{limits.instance_bytes} bytes"),
        ),
    )


def _initiated_at_once(settings: Settings) -> str:
    back = f", and {SENDERS_AT_ONCE} to peers that get results back" if sends_back(settings) else ""
    return f"one for each destination of each worker{back}; besides, one to each peer that asked for commitment"


def _archive(settings: Settings, archive: Sequence[ContextClaim]) -> Section:
    return Section(
        f"Application entity {settings.archive.ae_title} (embedded archive)",
        (
            (
                f"Listens on {settings.archive.bind}:{settings.archive.port}. Lets in this machine and the addresses "
                "of the peers; any other address, or another called AE title, "
                "is rejected permanently (source 1, reason 3 or 7)."
            ),
        ),
        (
            Section("Presentation contexts accepted", context_blocks(archive)),
            Section(
                "C-STORE",
                (
                    _statuses(
                        ("0000", "kept on the disk (also when it was there before)"),
                        ("0111", "another object is kept under this SOP Instance UID; the first stays"),
                        ("A700", "the disk cannot be written"),
                        ("A900", "the SOP Instance UIDs of command and data set differ"),
                        ("C000", "a UID is absent or none"),
                    ),
                ),
            ),
            Section(
                "C-FIND and C-GET",
                (
                    (
                        "Study Root; levels STUDY, SERIES, IMAGE. Keys match by single value, by list of UID and "
                        "universally; no ranges, no wildcards, no relational queries."
                    ),
                    _statuses(
                        ("FF00", "a match, or a sub-operation"),
                        ("0000", "complete"),
                        ("FE00", "cancelled"),
                        ("A900", "C-FIND: no level that is known"),
                    ),
                ),
            ),
        ),
    )


def _configuration(settings: Settings) -> tuple[Section, ...]:
    return (
        Section(
            "AE titles and addresses",
            (
                Table(
                    ("application entity", "AE title", "address"),
                    (
                        ("node", settings.node.ae_title, listening_at(settings)),
                        *(
                            [
                                (
                                    "embedded archive",
                                    settings.archive.ae_title,
                                    f"{settings.archive.bind}:{settings.archive.port}",
                                )
                            ]
                            if settings.archive.enabled
                            else []
                        ),
                    ),
                ),
                Table(
                    ("destination", "AE title", "address", "connection", "profile", "arrival is proved by"),
                    tuple(_destination_row(item) for item in settings.destinations),
                ),
            ),
        ),
        Section(
            "Parameters",
            ("All are set in node.toml; AE titles, addresses, ports, time limits and quotas among them.",),
        ),
    )


def _destination_row(item: Destination) -> tuple[str, ...]:
    connection = "TLS" if item.over_tls else "plain"
    if isinstance(item, DicomwebDestinationTable):
        return item.name, "none (DICOMweb)", item.url, connection, item.profile, item.confirm
    return item.name, item.ae_title, f"{item.host}:{item.port}", connection, item.profile, item.confirm


def _statuses(*rows: tuple[str, str]) -> Table:
    return Table(("status", "meaning"), rows)
