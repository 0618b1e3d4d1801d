"""node.toml -> validated, frozen settings. Unknown keys are errors that name the key."""

from dicom_node.settings.loading import load_settings, parse_settings
from dicom_node.settings.others import (
    Destination,
    DestinationTable,
    DicomwebDestinationTable,
    PeerTable,
    RuleTable,
)
from dicom_node.settings.services import AuditTable, CredentialsTable, LimitsTable, TlsTable
from dicom_node.settings.values import DEFAULT_PROFILE, SENDER, Priority
from dicom_node.settings.whole import Settings

__all__ = [
    "DEFAULT_PROFILE",
    "SENDER",
    "AuditTable",
    "CredentialsTable",
    "Destination",
    "DestinationTable",
    "DicomwebDestinationTable",
    "LimitsTable",
    "PeerTable",
    "Priority",
    "RuleTable",
    "Settings",
    "TlsTable",
    "load_settings",
    "parse_settings",
]
