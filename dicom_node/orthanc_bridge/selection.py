"""Which series are handed over: every one that may be for the node. Its rules decide what becomes of them."""

from __future__ import annotations

from dicom_node.orthanc_bridge.archive import ArchivedSeries
from dicom_node.orthanc_bridge.settings import BridgeSettings
from dicom_node.uids import MANUFACTURER


def why_never(series: ArchivedSeries, settings: BridgeSettings) -> str:
    """Why a series is not for the node at all; "" where it may be.

    Results are of other modalities than their sources; what the node itself made stays out whatever its modality.
    """
    if series.manufacturer.strip() == MANUFACTURER:
        return "made by the node itself"
    if series.modality not in settings.modalities:
        return f"of modality {series.modality or 'unknown'}; {' and '.join(settings.modalities)} are segmented"
    return ""


def is_too_old(series: ArchivedSeries, since: float) -> bool:
    """Whether its last image came before the bridge was to begin."""
    return series.last_update < since
