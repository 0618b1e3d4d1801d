"""Who may send, and whether there is room for what they send. Pure: facts in, decision out."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.settings import LimitsTable, PeerTable
from dicom_node.tls import PeerCertificate

REJECTED_PERMANENT, REJECTED_TRANSIENT = 1, 2
SERVICE_USER, SERVICE_PROVIDER_PRESENTATION = 1, 3
CALLING_AE_TITLE_NOT_RECOGNISED = 3
CALLED_AE_TITLE_NOT_RECOGNISED = 7
TEMPORARY_CONGESTION, LOCAL_LIMIT_EXCEEDED = 1, 2


@dataclass(frozen=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 Table 9-21).

    Attributes:
        reason: Of the service user: 3 calling AE title not recognised, 7 called AE title not recognised. Of the
            service provider (presentation): 1 temporary congestion, 2 local limit exceeded.
        message: The same in words, for the log.
        result: 1 rejected permanently, 2 transient.
        source: 1 the service user, 3 the service provider (presentation).
    """

    reason: int
    message: str
    result: int = REJECTED_PERMANENT
    source: int = SERVICE_USER

    @property
    def is_of_a_stranger(self) -> bool:
        """Whether somebody was not let in because of who he is, not because there is no room."""
        return self.source == SERVICE_USER


@dataclass(frozen=True)
class Caller:
    """Who asks for an association.

    Attributes:
        calling_ae: Who the peer says it is.
        called_ae: Whom it wants to talk to.
        address: The IP address it comes from.
        over_tls: Whether the connection is a secure one.
        certificate: What it has shown; None where it showed nothing.
    """

    calling_ae: str
    called_ae: str
    address: str
    over_tls: bool = False
    certificate: PeerCertificate | None = None


def admit(caller: Caller, *, own_ae: str, peers: Sequence[PeerTable]) -> PeerTable | Rejection:
    """Decide about an association.

    Args:
        caller: Who asks.
        own_ae: AE title of this node; has to be the called one.
        peers: Who may send; a peer is let in when one entry fits its AE title, its address and its certificate.

    Returns:
        The first entry that fits, else why none does. A foreign address or certificate gets reason 3: what it says it
        is, it is not here.
    """
    called, calling = caller.called_ae.strip(), caller.calling_ae.strip()
    if called != own_ae:
        return Rejection(
            CALLED_AE_TITLE_NOT_RECOGNISED, f'called AE title is "{called}", this node is "{own_ae}"; correct the peer'
        )
    titled = [peer for peer in peers if peer.ae_title in {"*", calling}]
    if not titled:
        return _unknown(f'no [[peer]] has the AE title "{calling}"; add one to let it send')
    near = [peer for peer in titled if contains(peer.address, caller.address)]
    if not near:
        return _unknown(
            f'"{calling}" calls from {caller.address}, which no [[peer]] of that title allows; correct its address'
        )
    lacks = [lack_of_security(peer, caller) for peer in near]
    if all(lacks):
        return _unknown(f'"{calling}" {lacks[0]}')
    return near[lacks.index("")]


def congestion(lack: str) -> Rejection:
    """The rejection of an association that could store nothing: there is no room at all."""
    return Rejection(TEMPORARY_CONGESTION, lack, REJECTED_TRANSIENT, SERVICE_PROVIDER_PRESENTATION)


def may_call(address: str, peers: Sequence[PeerTable]) -> bool:
    """Whether an address is that of any peer."""
    return any(contains(peer.address, address) for peer in peers)


def lack_of_security(peer: PeerTable, caller: Caller) -> str:
    """What a connection lacks in TLS and certificate to be this peer's, in words; empty when nothing."""
    if not peer.over_tls:
        return ""
    if not caller.over_tls:
        return "has to call over TLS, and calls the plain port"
    if peer.certificate_name is None and peer.certificate_sha256 is None:
        return ""
    return _lack_of_identity(peer, caller.certificate)


def _unknown(message: str) -> Rejection:
    return Rejection(CALLING_AE_TITLE_NOT_RECOGNISED, message)


def _lack_of_identity(peer: PeerTable, shown: PeerCertificate | None) -> str:
    if shown is None:
        return "has to show its certificate, and shows none"
    if peer.certificate_name is not None and peer.certificate_name.lower() not in shown.names:
        return f"shows a certificate of {sorted(shown.names)}, its [[peer]] says {peer.certificate_name}"
    if peer.certificate_sha256 is not None and peer.certificate_sha256 != shown.sha256:
        return f"shows a certificate with the fingerprint {shown.sha256}, its [[peer]] says another"
    return ""


def contains(network: str, address: str) -> bool:
    """Whether an address lies in a network; an IPv4 address mapped into IPv6 counts as the IPv4 address."""
    try:
        host = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    return host in ipaddress.ip_network(network, strict=False)


def lack_of_room(size: int, *, spool_bytes: int, free_bytes: int, limits: LimitsTable) -> str | None:
    """Decide whether an instance may be written.

    Args:
        size: Bytes of the file to write.
        spool_bytes: Bytes in the spool already.
        free_bytes: Free bytes of the disk that holds the spool.
        limits: The quota, and the free space never to go below.

    Returns:
        None when there is room, else what is lacking.
    """
    if limits.spool_bytes is not None and spool_bytes + size > limits.spool_bytes:
        return f"spool quota reached: {spool_bytes} of {limits.spool_bytes} bytes"
    if free_bytes - size < limits.free_bytes:
        return f"disk nearly full: {free_bytes} bytes free, {limits.free_bytes} to keep"
    return None
