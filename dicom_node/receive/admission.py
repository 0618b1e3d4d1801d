"""Who may send, and whether there is room for what they send. Pure: facts in, decision out."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.settings import LimitsTable, PeerTable

REJECTED_PERMANENT = 1
SERVICE_USER = 1
CALLING_AE_TITLE_NOT_RECOGNISED = 3
CALLED_AE_TITLE_NOT_RECOGNISED = 7


@dataclass(frozen=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 Table 9-21): rejected permanently by the service user.

    Attributes:
        reason: 3 calling AE title not recognised, 7 called AE title not recognised.
        message: The same in words, for the log.
    """

    reason: int
    message: str


def admit(
    *, called_ae: str, calling_ae: str, address: str, own_ae: str, peers: Sequence[PeerTable]
) -> Rejection | None:
    """Decide about an association.

    Args:
        called_ae: Whom the peer wants to talk to; has to be ``own_ae``.
        calling_ae: Who the peer says it is.
        address: The IP address it comes from.
        own_ae: AE title of this node.
        peers: Who may send; a peer is let in when one entry fits both its AE title and its address.

    Returns:
        None to accept, else why not. A foreign address gets reason 3: what it says it is, it is not here.
    """
    called, calling = called_ae.strip(), calling_ae.strip()
    if called != own_ae:
        return Rejection(
            CALLED_AE_TITLE_NOT_RECOGNISED, f'called AE title is "{called}", this node is "{own_ae}"; correct the peer'
        )
    titled = [peer for peer in peers if peer.ae_title in {"*", calling}]
    if not titled:
        return Rejection(
            CALLING_AE_TITLE_NOT_RECOGNISED, f'no [[peer]] has the AE title "{calling}"; add one to let it send'
        )
    if not any(contains(peer.address, address) for peer in titled):
        return Rejection(
            CALLING_AE_TITLE_NOT_RECOGNISED,
            f'"{calling}" calls from {address}, which no [[peer]] of that title allows; correct its address',
        )
    return None


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
