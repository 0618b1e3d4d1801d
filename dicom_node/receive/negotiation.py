"""What an association request says, and what is offered in return."""

from __future__ import annotations

from typing import cast

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom_node.receive.admission import Caller
from dicom_node.receive.connection import guarded
from dicom_node.settings import PeerTable
from dicom_node.tls import peer_certificate


def caller_of(association: Association) -> Caller:
    """Who asks for an association."""
    request = cast(A_ASSOCIATE, association.requestor.primitive)
    secured = guarded(association).certificate_socket
    return Caller(
        calling_ae=request.calling_ae_title,
        called_ae=request.called_ae_title,
        address=association.requestor.address,
        over_tls=secured is not None,
        certificate=peer_certificate(secured) if secured is not None else None,
    )


def proposed_classes(association: Association) -> set[str]:
    """The abstract syntaxes that a peer proposes."""
    request = cast(A_ASSOCIATE, association.requestor.primitive)
    return {str(context.abstract_syntax) for context in request.presentation_context_definition_list}


def offer_what_may_be_stored(association: Association, peer: PeerTable) -> None:
    """Accept no contexts for storage classes that this peer may not store."""
    if not peer.storage_classes:
        return
    user = association.acceptor
    user.supported_contexts = [
        context
        for context in user.supported_contexts
        if str(context.abstract_syntax) in peer.storage_classes
        or uid_to_service_class(str(context.abstract_syntax)) is not StorageServiceClass
    ]
