"""Whether a report of storage commitment comes from whom was asked: AE title, [[peer]], and address or certificate."""

from __future__ import annotations

import socket
from collections.abc import Callable

from dicom_node.ledger.commitments import Commitment
from dicom_node.logs import get_logger
from dicom_node.receive.admission import Caller, Rejection, admit, contains
from dicom_node.settings import DestinationTable, Settings

_log = get_logger("receive")


def addresses_of(host: str) -> frozenset[str]:
    """The IP addresses of a host; none where its name cannot be resolved now."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset(str(address[0]) for *_, address in found)


def lack_of_origin(
    asked: Commitment,
    caller: Caller,
    settings: Settings,
    resolve: Callable[[str], frozenset[str]] = addresses_of,
) -> str:
    """Why a report is not that of the destination that was asked; empty when it is.

    An AE title is nothing but a word, and a ``[[peer]]`` may let any of them in. So the report has to fit a
    ``[[peer]]`` of the destination's own title where there is one, with its address and certificate; and it has to come
    from an address of the host that was asked, from one of its ``reports_from``, or with a certificate that bears its
    name. A host whose name cannot be resolved now is not held against it.

    Args:
        asked: The transaction.
        caller: Who reports.
        settings: Peers and destinations.
        resolve: The addresses of a host name.
    """
    if caller.calling_ae.strip() != asked.ae_title:
        return f"somebody else was asked this: {asked.ae_title}"
    own = [peer for peer in settings.peers if peer.ae_title == asked.ae_title]
    if own:
        decision = admit(caller, own_ae=settings.node.ae_title, peers=own)
        if isinstance(decision, Rejection):
            return decision.message
    dimse = (item for item in settings.destinations if isinstance(item, DestinationTable))
    destination = next((item for item in dimse if item.name == asked.destination), None)
    host = asked.host or (destination.host if destination else None)
    if host is None or _is_certified(caller, host, destination) or _is_foreseen(caller, destination):
        return ""
    addresses = resolve(host)
    if not addresses:
        _log.warning("the host of a destination cannot be resolved, its report is taken by AE title", host=host)
    if not addresses or any(contains(address, caller.address) for address in addresses):
        return ""
    return (
        f"{asked.ae_title} was asked at {host} ({', '.join(sorted(addresses))}); if it reports from elsewhere, add the "
        f'address to reports_from of destination "{asked.destination}"'
    )


def _is_certified(caller: Caller, host: str, destination: DestinationTable | None) -> bool:
    """Whether the certificate that was shown bears the name by which the destination is called over TLS."""
    if caller.certificate is None or destination is None or not destination.tls:
        return False
    return (destination.tls_name or host).lower() in caller.certificate.names


def _is_foreseen(caller: Caller, destination: DestinationTable | None) -> bool:
    return destination is not None and any(contains(each, caller.address) for each in destination.reports_from)
