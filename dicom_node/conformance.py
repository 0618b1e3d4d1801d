"""The DICOM conformance statement of a configuration (PS3.2), as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.uid import UID

from dicom_node import __version__
from dicom_node.deliver.association import sop_class_name
from dicom_node.deliver.echo import RESULT_CLASSES
from dicom_node.receive.connection import MAXIMUM_PDU
from dicom_node.receive.offered import TRANSFER_SYNTAXES
from dicom_node.settings import PeerTable, Settings
from dicom_node.uids import (
    IMAGE_CLASSES,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    LABEL_MAP_SEGMENTATION,
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
    VERIFICATION,
)

_CONDITIONS = {LABEL_MAP_SEGMENTATION: ", where a profile asks for it and the peer accepts it"}


def conformance_statement(settings: Settings) -> str:
    """The statement: what the node accepts and proposes with these settings.

    Args:
        settings: The running configuration.

    Returns:
        Markdown, with the tables of PS3.2 Annex N in short form.
    """
    parts = [
        f"# DICOM conformance statement: dicom-node {__version__}",
        "Automatic segmentation of CT and MR series. For research use; not a medical device.",
        _identity(settings),
        _storage_scp(settings),
        _storage_scu(settings),
        *_store_service(settings),
        _security(settings),
    ]
    return "\n\n".join(parts) + "\n"


def _identity(settings: Settings) -> str:
    node = settings.node
    return "## Application entity\n\n" + _table(
        ("property", "value"),
        [
            ("AE title", node.ae_title),
            ("address and port", ", ".join(f"{node.bind}:{port}" for port in _ports(settings))),
            ("implementation class UID", IMPLEMENTATION_CLASS_UID),
            ("implementation version name", IMPLEMENTATION_VERSION_NAME),
            ("maximum PDU received", f"{MAXIMUM_PDU} bytes"),
            ("simultaneous associations", str(settings.limits.associations)),
            ("asynchronous operations", "not supported"),
        ],
    )


def _ports(settings: Settings) -> list[int]:
    plain = [settings.node.port] if settings.tls is None or settings.tls.plain else []
    return plain + ([settings.tls.port] if settings.tls is not None else [])


def _storage_scp(settings: Settings) -> str:
    classes = [VERIFICATION, STORAGE_COMMITMENT, *dict.fromkeys((*IMAGE_CLASSES, *settings.node.storage_classes))]
    text = "## Accepted as SCP\n\n" + _table(("SOP class", "UID"), [(UID(uid).name, uid) for uid in classes])
    text += "\n\nEach storage class is accepted in one of these transfer syntaxes, the first that is proposed:\n\n"
    text += _table(("transfer syntax", "UID"), [(UID(uid).name, uid) for uid in TRANSFER_SYNTAXES])
    text += (
        "\n\nStorage commitment: what is on record and on disk as it was received (SHA-256) is committed to, until "
        "[retention] removes it; the report goes out over a new association to the peer, for up to five hours. As its "
        "SCU the node takes reports of destinations it asked, from their hosts (both roles are accepted in role "
        "selection).\n\n"
    )
    text += _table(
        ("N-ACTION status", "meaning"),
        [
            ("0000", "the request is on record and will be reported on (also when it was made before)"),
            ("0115", "no transaction UID, or no instance with its UIDs"),
            ("0123", "no such action"),
            ("0131", "the transaction UID is in use for other instances; nothing is reported"),
            ("0110", "a fault of this node; nothing is reported"),
        ],
    )  # fmt: skip
    text += "\n\n" + _table(
        ("failure reason", "meaning"),
        [
            ("0112", "the instance is not on record, or its file is gone"),
            ("0119", "it is on record under another SOP class"),
            ("0110", "its file is not what was received, or cannot be read"),
        ],
    )  # fmt: skip
    return text + "\n\n" + _table(
        ("C-STORE status", "meaning"),
        [
            ("0000", "the instance is on disk, fsynced, and on record (also when it was on record before)"),
            ("A700", "out of resources: disk, quota or database; send again later"),
            ("A900", "the data set is not the SOP class or instance that was announced"),
            ("C000", "the data set cannot be understood"),
            ("0111", "another object is on record under this SOP Instance UID; the first is kept"),
            ("0117", "the SOP Instance UID of the request is no UID"),
            ("0122", "the SOP class is not the one of the presentation context"),
            ("0110", "a fault of this node; the instance was not stored"),
        ],
    )  # fmt: skip


def _storage_scu(settings: Settings) -> str:
    rows = [(sop_class_name(uid), uid, f"C-STORE{_CONDITIONS.get(uid, '')}") for uid in RESULT_CLASSES]
    rows.append((UID(STUDY_ROOT_FIND).name, STUDY_ROOT_FIND, "C-FIND, to confirm arrival"))
    rows.append((UID(STORAGE_COMMITMENT).name, STORAGE_COMMITMENT, "N-ACTION, where confirm says so"))
    destinations = [(item.name, item.address, item.profile, item.confirm) for item in settings.destinations]
    return (
        "## Proposed as SCU\n\n"
        + _table(("SOP class", "UID", "use"), rows)
        + "\n\nSegmentations are stored as Explicit VR Little Endian, RT Structure Sets as Implicit VR Little Endian: "
        "a long contour exceeds the 64 kB of an explicit DS value. The other of the two is proposed beside it.\n\n"
        + _table(("destination", "address", "profile", "arrival is proved by"), destinations)
    )


def _store_service(settings: Settings) -> list[str]:
    web = settings.dicomweb
    if web.port is None:
        return []
    callers = [
        (peer.ae_title, peer.address, " and ".join(_shown_by(peer))) for peer in settings.peers if peer.may_use_dicomweb
    ]
    scheme = "https" if web.tls else "http"
    return [
        "## DICOMweb: Store transaction, as origin server\n\n"
        f"POST {scheme}://{web.bind}:{web.port}{web.prefix}/studies and /studies/STUDY (PS3.18 10.5) takes "
        'multipart/related; type="application/dicom": PS3.10 files of the storage classes and transfer syntaxes above, '
        f"{web.parts} in a request at most. Metadata with bulk data apart, and a Content-Encoding, are answered 415. "
        "The answer is application/dicom+json: 200 all stored, 202 some, 409 none, with the Failure Reasons of the "
        "table above and C122 for a transfer syntax that is not taken; 503 with Retry-After where there is no room. "
        "Query and retrieve are not offered.\n\n" + _table(("peer", "address", "has to show"), callers)
    ]


def _shown_by(peer: PeerTable) -> list[str]:
    shown = ["bearer token"] if peer.token_file is not None else []
    return [*shown, "client certificate"] if peer.has_certificate else shown


def _security(settings: Settings) -> str:
    peers = [(peer.ae_title, peer.address, "TLS alone" if peer.over_tls else "any") for peer in settings.peers]
    return (
        "## Security\n\nAssociations are accepted from these calling AE titles and addresses alone. "
        + _secure_transport(settings)
        + "\n\n"
        + _table(("calling AE title", "address", "connection"), peers)
    )


def _secure_transport(settings: Settings) -> str:
    tls = settings.tls
    if tls is None:
        return "Secure transport connections are not set up here."
    clients = "have to show" if tls.require_client_certificate else "may show"
    return (
        f"Port {tls.port} speaks TLS by the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 "
        f"B.12): TLS 1.3 and 1.2; those who call {clients} a certificate. "
        + ("The plain port is open too." if tls.plain else "There is no plain port.")
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
