"""What the listener offers: SOP classes, transfer syntaxes, the size of a PDU."""

from __future__ import annotations

import sys
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import register_uid, uid_to_service_class

from dicom_node.errors import SettingsError
from dicom_node.receive.connection import MAXIMUM_PDU
from dicom_node.settings import Settings
from dicom_node.uids import (
    IMAGE_CLASSES,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    STORAGE_COMMITMENT,
    VERIFICATION,
    is_uid,
)

TRANSFER_SYNTAXES: Final = (
    # pynetdicom accepts the first of OUR list that the peer proposes in a context (PS3.8 7.1.1.14 leaves it to the
    # acceptor). Plain ones first: every sender can make them and nothing has to be decoded. Then what is lossless
    # by definition, cheapest first; JPEG 2000 (.91) may be lossy and is taken only when nothing else is offered.
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless Only
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
)


def application_entity(settings: Settings) -> Any:
    """The application entity that the listener answers as.

    Raises:
        SettingsError: A SOP class of the settings is none, or a peer may store what the node does not accept.
    """
    entity = AE(ae_title=settings.node.ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    # Counted in occupancy.py: pynetdicom counts connections that have not asked for an association too.
    entity.maximum_associations = sys.maxsize
    entity.maximum_pdu_size = MAXIMUM_PDU
    entity.acse_timeout = settings.limits.negotiation_seconds
    entity.network_timeout = settings.limits.idle_seconds
    entity.add_supported_context(VERIFICATION)
    # SCP for who sends to us; SCU when a destination opens an association to report to us, with roles exchanged
    entity.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    accepted = dict.fromkeys((*IMAGE_CLASSES, *settings.node.storage_classes))
    for peer in settings.peers:
        unknown = [sop_class for sop_class in peer.storage_classes if sop_class not in accepted]
        if unknown:
            raise SettingsError(
                f'[[peer]] "{peer.ae_title}" storage_classes: {unknown} are not accepted by this node; '
                "add them to [node] storage_classes"
            )
    for sop_class in accepted:
        if not is_uid(sop_class):
            raise SettingsError(f'[node] storage_classes: "{sop_class}" is not a UID')
        if uid_to_service_class(sop_class) is not StorageServiceClass:
            register_uid(sop_class, "DicomNode" + sop_class.replace(".", "_"), StorageServiceClass)
        entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    return entity
