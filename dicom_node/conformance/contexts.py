"""What the node accepts and proposes in association negotiation, as its settings have it. Frozen values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pynetdicom import DEFAULT_TRANSFER_SYNTAXES
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom_node.archive import ARCHIVED_CLASSES, ARCHIVED_SYNTAXES, STUDY_ROOT_GET
from dicom_node.deliver.echo import RESULT_CLASSES
from dicom_node.deliver.sender import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicom_node.profiles import Profile, profile_named
from dicom_node.receive.offered import TRANSFER_SYNTAXES
from dicom_node.settings import SENDER, Destination, DestinationTable, PeerTable, Settings
from dicom_node.uids import (
    IMAGE_CLASSES,
    LABEL_MAP_SEGMENTATION,
    RT_STRUCTURE_SET,
    SECONDARY_CAPTURE,
    SEGMENTATION,
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
    VERIFICATION,
)

Role = Literal["SCU", "SCP", "SCU/SCP"]
PLAIN_SYNTAXES: Final = tuple(str(uid) for uid in DEFAULT_TRANSFER_SYNTAXES)
"""What classes without pixels are accepted in."""
SENT_SYNTAXES: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)


@dataclass(frozen=True)
class ContextClaim:
    """One SOP class that is accepted or proposed.

    Attributes:
        sop_class: Its UID, the abstract syntax.
        syntaxes: UIDs of the transfer syntaxes.
        role: Of the node.
    """

    sop_class: str
    syntaxes: tuple[str, ...]
    role: Role


@dataclass(frozen=True)
class Activity:
    """A reason for which the node opens associations.

    Attributes:
        name: What it is called.
        when: When, and for what.
        contexts: What is proposed.
    """

    name: str
    when: str
    contexts: tuple[ContextClaim, ...]


def accepted_contexts(settings: Settings, peer: PeerTable | None = None) -> tuple[ContextClaim, ...]:
    """What the listener accepts.

    Args:
        settings: The configuration.
        peer: From whom; None for one who may store whatever the node accepts.
    """
    classes = dict.fromkeys((*IMAGE_CLASSES, *settings.node.storage_classes))
    if peer is not None and peer.storage_classes:
        classes = {uid: None for uid in classes if uid in peer.storage_classes}
    return (
        ContextClaim(VERIFICATION, PLAIN_SYNTAXES, "SCP"),
        ContextClaim(STORAGE_COMMITMENT, PLAIN_SYNTAXES, "SCU/SCP"),
        *(ContextClaim(uid, TRANSFER_SYNTAXES, "SCP") for uid in classes),
    )


def archive_contexts(settings: Settings) -> tuple[ContextClaim, ...]:
    """What the embedded archive accepts; nothing where there is none."""
    if not settings.archive.enabled:
        return ()
    return (
        *(ContextClaim(uid, PLAIN_SYNTAXES, "SCP") for uid in (VERIFICATION, STUDY_ROOT_FIND, STUDY_ROOT_GET)),
        *(ContextClaim(uid, ARCHIVED_SYNTAXES, "SCU/SCP") for uid in ARCHIVED_CLASSES),
    )


def produced_classes(settings: Settings) -> tuple[str, ...]:
    """SOP classes of the results that the profiles of these settings ask for."""
    return _classes_for(settings, settings.destinations)


def activities(settings: Settings) -> tuple[Activity, ...]:
    """Why the node opens associations with these settings, and what it proposes each time."""
    ways = {destination.confirm for destination in settings.destinations}
    found = [_echo(), _storing(settings)]
    if ways & {"c-find", "commitment", "auto"} or sends_back(settings):
        found.append(_asking())
    if ways & {"commitment", "auto"}:
        found.append(_requesting_commitment())
    return (*found, _reporting_commitment())


def is_storage(sop_class: str) -> bool:
    """Whether a SOP class is of the Storage Service Class."""
    return uid_to_service_class(sop_class) is StorageServiceClass


def _echo() -> Activity:
    classes = (*RESULT_CLASSES, STUDY_ROOT_FIND, STORAGE_COMMITMENT)
    return Activity(
        "Ask what a destination takes",
        "When the worker starts, for every [[destination]]; before a label map segmentation is sent; on the command "
        "dicom-node echo. A C-ECHO is sent, nothing is stored.",
        _with_verification(ContextClaim(uid, SENT_SYNTAXES, "SCU") for uid in classes),
    )


def _storing(settings: Settings) -> Activity:
    return Activity(
        "Store results",
        "When the results of a case are verified, and again after the pauses of retry_seconds while the destination "
        "cannot be reached or refuses for now. Of the classes below those of the case's results are proposed.",
        _with_verification(ContextClaim(uid, SENT_SYNTAXES, "SCU") for uid in _classes_for(settings, _peers(settings))),
    )


def _asking() -> Activity:
    return Activity(
        "Confirm arrival by query",
        'After results were stored, where the destination says confirm = "c-find", or where it says "commitment" or '
        '"auto" and no commitment is to be had, or reported in time; before they are sent again.',
        _with_verification([ContextClaim(STUDY_ROOT_FIND, SENT_SYNTAXES, "SCU")]),
    )


def _requesting_commitment() -> Activity:
    return Activity(
        "Request storage commitment",
        'After results were stored, where the destination says confirm = "commitment" or "auto".',
        _with_verification([ContextClaim(STORAGE_COMMITMENT, SENT_SYNTAXES, "SCU")]),
    )


def _reporting_commitment() -> Activity:
    return Activity(
        "Report storage commitment",
        "After a peer has asked for storage commitment, to the port of its [[peer]] entry; again for up to five hours.",
        _with_verification([ContextClaim(STORAGE_COMMITMENT, SENT_SYNTAXES, "SCP")]),
    )


def _with_verification(contexts: Iterable[ContextClaim]) -> tuple[ContextClaim, ...]:
    """Verification is proposed each time: a peer that accepts nothing else still answers."""
    return (*contexts, ContextClaim(VERIFICATION, PLAIN_SYNTAXES, "SCU"))


def sends_back(settings: Settings) -> bool:
    """Whether a rule sends results back to who sent the images."""
    return any(SENDER in rule.to for rule in settings.rule)


def _peers(settings: Settings) -> list[Destination]:
    """Destinations that are spoken to by DIMSE."""
    return [item for item in settings.destinations if isinstance(item, DestinationTable)]


def _classes_for(settings: Settings, destinations: Sequence[Destination]) -> tuple[str, ...]:
    """SOP classes of the results that these destinations, and senders, get."""
    produced = {uid for profile in _profiles(settings, destinations) for uid in _classes_of(profile)}
    return tuple(uid for uid in RESULT_CLASSES if uid in produced)


def _profiles(settings: Settings, destinations: Sequence[Destination]) -> list[Profile]:
    names = [destination.profile for destination in destinations]
    if sends_back(settings):
        names += [peer.profile for peer in settings.peers]
    return [profile_named(settings, name, "a destination") for name in dict.fromkeys(names)]


def _classes_of(profile: Profile) -> set[str]:
    classes = set()
    for variant in profile.variants:
        if "SEG" in variant.results:
            classes.add(LABEL_MAP_SEGMENTATION if variant.seg == "LABELMAP" else SEGMENTATION)
        if "RTSTRUCT" in variant.results:
            classes.add(RT_STRUCTURE_SET)
        if "SC" in variant.results:
            classes.add(SECONDARY_CAPTURE)
    return classes
