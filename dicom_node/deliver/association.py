"""An association that this node opens, as a context; pynetdicom's ways to fail, told apart, become our errors."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.deliver.answers import keep_answers
from dicom_node.errors import DeliveryFailed, DeliveryRefused, SettingsError
from dicom_node.settings import DestinationTable
from dicom_node.tls import ClientContext, client_context
from dicom_node.uids import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    LABEL_MAP_SEGMENTATION,
    VERIFICATION,
)

_CONNECT_SECONDS = 10.0
_REJECTED_PERMANENT = 1


def sop_class_name(uid: str) -> str:
    """What PS3.6 calls a SOP class; pydicom knows label maps by their number only."""
    return "Label Map Segmentation Storage" if uid == LABEL_MAP_SEGMENTATION else UID(uid).name


@contextmanager
def open_association(
    destination: DestinationTable,
    contexts: Sequence[PresentationContext],
    calling_ae: str,
    *,
    handlers: Sequence[tuple[evt.NotificationEvent | evt.InterventionEvent, Callable[..., Any]]] = (),
    roles: Sequence[Any] = (),
) -> Iterator[Association]:
    """Associate with a destination; released at the end, aborted when the block raises.

    Verification is proposed beside what is asked for: a peer that accepts none of our contexts then still answers, and
    that is not mistaken for a broken connection.

    Args:
        destination: Whom to call; its ``timeout_seconds`` bounds the connection, the negotiation and every answer.
        contexts: What to propose.
        calling_ae: Our AE title.
        handlers: pynetdicom's, for what the peer asks of us while the association is open.
        roles: Role selection (PS3.7 D.3.3.4), where we are to be the SCP.

    Raises:
        DeliveryFailed: Not reachable, no answer in time, aborted, or rejected for now; so it is when the block goes on
            with an association that the peer has ended meanwhile.
        DeliveryRefused: Rejected permanently (PS3.8 9.3.4), as for an unknown AE title.
    """
    entity = AE(ae_title=calling_ae)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = min(_CONNECT_SECONDS, destination.timeout_seconds)
    entity.acse_timeout = destination.timeout_seconds
    entity.dimse_timeout = destination.timeout_seconds
    entity.network_timeout = destination.timeout_seconds
    secured = _tls_of(destination)
    connected: list[socket.socket] = []
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            contexts=[*contexts, build_context(VERIFICATION)],
            ae_title=destination.ae_title,
            ext_neg=list(roles),
            tls_args=(secured, destination.tls_name or destination.host) if secured else None,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _tune),
                (evt.EVT_CONN_OPEN, lambda event: connected.append(_connection(event))),
                *handlers,
            ],
        )
    except OSError as error:
        raise DeliveryFailed(f"{_name(destination)} cannot be reached: {error}") from error
    if not association.is_established:
        for connection in connected:
            connection.close()  # pynetdicom leaves a socket open that the peer has closed first
        raise _failure(destination, association, secured.failure if secured else "", connected=bool(connected))
    try:
        yield association
    except RuntimeError as error:  # pynetdicom's for a request over an association that is no more
        is_lost = not association.is_established
        association.abort()
        if is_lost:
            raise DeliveryFailed(f"{_name(destination)} ended the association: {error}") from error
        raise
    except BaseException:
        association.abort()
        raise
    if association.is_established:
        association.release()


def accepted_syntaxes(association: Association) -> dict[str, frozenset[str]]:
    """Which transfer syntaxes the peer accepted, by SOP class."""
    accepted: dict[str, frozenset[str]] = {}
    for context in association.accepted_contexts:
        sop_class = str(context.abstract_syntax)
        accepted[sop_class] = accepted.get(sop_class, frozenset()) | {str(context.transfer_syntax[0])}
    return accepted


def _tls_of(destination: DestinationTable) -> ClientContext | None:
    if not destination.tls or destination.credentials is None:
        return None
    try:
        return client_context(destination.credentials)
    except SettingsError as error:
        # Another attempt may end better: a certificate that has expired will be renewed.
        raise DeliveryFailed(f"{_name(destination)} cannot be called over TLS: {error.message}") from error


def _failure(
    destination: DestinationTable, association: Association, tls_failure: str, *, connected: bool
) -> DeliveryFailed:
    name = _name(destination)
    if tls_failure:
        return DeliveryFailed(
            f"no secure connection to {name} at {destination.host} port {destination.port}: {tls_failure}"
        )
    if association.is_rejected:
        answer = cast(A_ASSOCIATE, association.acceptor.primitive)
        reason = f"{name} rejected the association: {answer.result_str}, {answer.source_str}, {answer.reason_str}"
        if answer.result == _REJECTED_PERMANENT:
            return DeliveryRefused(f"{reason}; check both AE titles and whether the peer knows this node")
        return DeliveryFailed(reason)
    if not connected:
        return DeliveryFailed(
            f"{name} cannot be reached at {destination.host} port {destination.port}; is it running, is the port right?"
        )
    return DeliveryFailed(
        f"{name} closed the connection, or did not answer the association request "
        f"within {destination.timeout_seconds:g} s"
        + ("; does it accept the certificate of this node?" if destination.tls else "")
    )


def _name(destination: DestinationTable) -> str:
    return f'destination "{destination.name}" ({destination.ae_title})'


def _tune(event: evt.Event) -> None:
    keep_answers(event.assoc)
    # Nagle's algorithm and the peer's delayed acknowledgement would cost some 10 ms per message.
    connection = _connection(event)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # pynetdicom has taken the time limit away. Over TLS it reads as soon as part of a record is there: a peer that
    # sends no more would then keep its thread for ever.
    connection.settimeout(event.assoc.network_timeout)


def _connection(event: evt.Event) -> socket.socket:
    return cast(socket.socket, event.assoc.dul.socket.socket)  # type: ignore[union-attr] # the event says it is open
