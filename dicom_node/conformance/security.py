"""Character sets and security (PS3.2 A.7 and A.8)."""

from __future__ import annotations

from dicom_node.conformance.document import Block, Items, Section, Table
from dicom_node.settings import PeerTable, Settings


def character_sets() -> Section:
    """What is done with text."""
    return Section(
        "Support of character sets",
        (
            (
                "Received data sets are kept byte for byte, whatever their character set. A result has the "
                "SpecificCharacterSet (0008,0005) of its source, and the source's names and texts unchanged; the "
                "node's own texts and the names of structures are ASCII, which every character set holds. Queries that "
                "the node sends hold UIDs alone. The embedded archive answers with the SpecificCharacterSet of "
                "what it stored."
            ),
        ),
    )


def security(settings: Settings) -> Section:
    """Secure transport, who is let in, and what else protects the node."""
    return Section(
        "Security",
        (),
        (
            Section("Security profiles", _secure_transport(settings)),
            Section("Association level security", _admission(settings)),
            Section(
                "Application level security",
                (
                    Items(
                        (
                            (
                                "No user identity negotiation, no digital signatures; structured logs name UIDs and "
                                "AE titles, never a patient's name."
                            ),
                            _audit_trail(settings),
                            "SOP Instance UIDs become file names only after they were checked to be UIDs.",
                            (
                                "Nothing that is received is executed or unpickled; the network's weights are checked "
                                "by SHA-256."
                            ),
                        )
                    ),
                ),
            ),
        ),
    )


def _secure_transport(settings: Settings) -> tuple[Block, ...]:
    tls = settings.tls
    outgoing = [item.name for item in settings.destination if item.over_tls]
    calls = (
        f"These destinations are called over TLS and have to show a certificate for their host: {', '.join(outgoing)}."
        if outgoing
        else "No destination is called over TLS."
    )
    if tls is None:
        return "Secure transport connections are not set up here for those who call.", calls
    clients = "have to show" if tls.require_client_certificate else "may show"
    return (
        f"Port {tls.port} speaks TLS by the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 "
        f"B.12): TLS 1.3 and 1.2, the latter with ECDHE and AES-GCM alone; those who call {clients} a certificate. "
        + ("Those that a revocation list of the authority names are refused. " if tls.crl else "")
        + ("The plain port is open too." if tls.plain else "There is no plain port."),
        calls,
    )


def _audit_trail(settings: Settings) -> str:
    audit = settings.audit
    if audit is None:
        return "No audit trail is kept: the settings have no table [audit]."
    places = ["to a file"] if audit.file is not None else []
    if audit.syslog_server is not None:
        way = {"tls": "over TLS (RFC 5425)", "udp": "over UDP (RFC 5426)", "tcp": "over TCP, in the clear (RFC 6587)"}
        places.append(f"by syslog {way[audit.syslog_server.scheme]}")
    return (
        f"Audit trail messages of PS3.15 A.5 are sent {' and '.join(places)}: Application Activity, Begin Transferring "
        "DICOM Instances, DICOM Instances Transferred, DICOM Instances Accessed, DICOM Study Deleted, Query, Security "
        "Alert. They name the patient."
    )


def _admission(settings: Settings) -> tuple[Block, ...]:
    return (
        (
            "Associations are accepted from the calling AE titles and addresses below alone, and if they call the AE "
            f"title {settings.node.ae_title}. The first entry that fits holds."
        ),
        Table(
            ("calling AE title", "address", "connection", "certificate", "storage SOP classes", "associations"),
            tuple(_peer_row(peer, settings) for peer in settings.peers),
        ),
        (
            f"An address may hold {settings.limits.connections_per_address} connections, all together "
            f"{settings.limits.connections}; addresses that no entry has are rejected and may hold an eighth of them."
        ),
    )


def _peer_row(peer: PeerTable, settings: Settings) -> tuple[str, ...]:
    shown = [f"name {peer.certificate_name}"] if peer.certificate_name else []
    shown += [f"SHA-256 {peer.certificate_sha256}"] if peer.certificate_sha256 else []
    return (
        "any" if peer.ae_title == "*" else peer.ae_title,
        peer.address,
        "TLS alone" if peer.over_tls else "any",
        ", ".join(shown) or "any that is trusted" if settings.tls else "none",
        ", ".join(peer.storage_classes) or "all that the node accepts",
        str(peer.associations or settings.limits.associations),
    )
