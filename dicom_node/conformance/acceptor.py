"""What is done with associations that others open (PS3.2 A.4.2.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_node.conformance.contexts import ContextClaim, accepted_contexts
from dicom_node.conformance.document import Items, Section, Table
from dicom_node.conformance.words import context_blocks
from dicom_node.deliver.association import sop_class_name
from dicom_node.receive.admission import (
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
    REJECTED_PERMANENT,
    REJECTED_TRANSIENT,
    SERVICE_PROVIDER_PRESENTATION,
    SERVICE_USER,
    TEMPORARY_CONGESTION,
)
from dicom_node.receive.storing import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH_SOP_CLASS,
    DUPLICATE_SOP_INSTANCE,
    INVALID_SOP_INSTANCE,
    NOT_AUTHORISED,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
)
from dicom_node.settings import Settings

STORE_STATUSES: Final = {
    SUCCESS: ("Success", "the instance is fsynced and on record (also when it was on record before)", "none"),
    OUT_OF_RESOURCES: (
        "Refused: out of resources",
        "disk, quota or database lack room, or the node is stopping; nothing was kept",
        "send again later",
    ),
    DOES_NOT_MATCH_SOP_CLASS: (
        "Error: data set does not match SOP class",
        "SOP class or instance of command and data set differ",
        "correct the sender",
    ),
    CANNOT_UNDERSTAND: (
        "Error: cannot understand",
        "the data set cannot be read, or a UID of study, series or instance is absent or none",
        "correct the object",
    ),
    PROCESSING_FAILURE: ("Processing failure", "a fault of this node; the instance was not stored", "send again"),
    DUPLICATE_SOP_INSTANCE: (
        "Duplicate SOP instance",
        "another object is on record under this SOP Instance UID; the first is kept",
        "give the object a UID of its own",
    ),
    INVALID_SOP_INSTANCE: (
        "Invalid SOP instance",
        "the SOP Instance UID of the request is no UID",
        "correct the sender",
    ),
    SOP_CLASS_NOT_SUPPORTED: (
        "SOP class not supported",
        "the SOP class is not the one of the presentation context",
        "correct the sender",
    ),
    NOT_AUTHORISED: ("Not authorised", "this peer may not store this SOP class", "see [[peer]] storage_classes"),
}
"""What the listener answers to a C-STORE (PS3.4 B.2.3, PS3.7 Annex C): name, meaning, what the sender does."""


def acceptance(settings: Settings, accepted: Sequence[ContextClaim]) -> Section:
    """Which associations and presentation contexts are accepted, and how each service answers."""
    return Section(
        "Association acceptance policy",
        (),
        (
            Section("Associations that are rejected", (_rejections(),)),
            Section(
                "Presentation contexts accepted",
                (
                    *context_blocks(accepted),
                    (
                        "A storage context is accepted in the first transfer syntax of this list that the peer "
                        "proposes in it. No extended negotiation; role selection is answered for "
                        "Storage Commitment Push Model alone."
                    ),
                    *_restricted(settings),
                ),
            ),
            _verification(),
            _storage(),
            _commitment(),
        ),
    )


def _rejections() -> Table:
    user, provider = f"{SERVICE_USER} (service user)", f"{SERVICE_PROVIDER_PRESENTATION} (provider, presentation)"
    permanent, transient = f"{REJECTED_PERMANENT} (permanent)", f"{REJECTED_TRANSIENT} (transient)"
    return Table(
        ("result", "source", "reason", "when"),
        (
            (permanent, user, str(CALLED_AE_TITLE_NOT_RECOGNISED), "the called AE title is not that of the node"),
            (
                permanent,
                user,
                str(CALLING_AE_TITLE_NOT_RECOGNISED),
                "no entry of peers has this AE title, address and certificate",
            ),
            (transient, provider, str(TEMPORARY_CONGESTION), "there is no room for any instance; not for C-ECHO alone"),
            (transient, provider, str(LOCAL_LIMIT_EXCEEDED), "too many associations, in all or of this peer"),
        ),
    )


def _restricted(settings: Settings) -> tuple[Items, ...]:
    """What peers with storage classes of their own are accepted."""
    sentences = []
    for peer in settings.peers:
        if peer.storage_classes:
            classes = [item.sop_class for item in accepted_contexts(settings, peer)]
            names = ", ".join(f"{sop_class_name(uid)} ({uid})" for uid in classes)
            sentences.append(f"From {peer.ae_title} at {peer.address} these alone are accepted: {names}.")
    return (Items(tuple(sentences)),) if sentences else ()


def _verification() -> Section:
    return Section("Verification as SCP", ("C-ECHO is answered 0000 (Success).",))


def _storage() -> Section:
    rows = tuple((f"{status:04X}", name, meaning, advice) for status, (name, meaning, advice) in STORE_STATUSES.items())
    return Section(
        "Storage as SCP",
        (
            (
                "Level 2 (full): data sets are kept byte for byte, all attributes included, private ones too; nothing "
                "is coerced. They stay until [retention] removes them: the node is no archive."
            ),
            Table(("status", "name", "when", "what the sender does"), rows),
            "An ErrorComment (0000,0902) says why. No warning status is answered.",
            (
                "What is segmented: images of CT and MR whose series is one whole volume. A series with a gap, "
                "localizers, secondary captures, projections, colour images and mixed series are stored, and their "
                "case ends with the reason in words. Segmentations, structure sets and secondary captures, the node's "
                "own among them, are never segmented."
            ),
        ),
    )


def _commitment() -> Section:
    return Section(
        "Storage commitment as SCP and as SCU",
        (
            (
                "As SCP: N-ACTION (action type 1). What is on record and on disk as it was received (SHA-256) is "
                "committed to, until [retention] removes it. The report goes out over a new association to the port of "
                "the peer's entry, for up to five hours."
            ),
            Table(
                ("N-ACTION status", "meaning"),
                (
                    ("0000", "on record, and will be reported on (also when it was asked before)"),
                    ("0110", "the request cannot be recorded; ask again"),
                    ("0115", "no transaction UID, no instance, or an instance without UIDs"),
                    ("0123", "another action type than 1"),
                    ("0131", "the transaction UID is in use for other instances; nothing is reported"),
                ),
            ),
            Table(
                ("failure reason", "meaning"),
                (
                    ("0110", "its file is not what was received, or cannot be read"),
                    ("0112", "the instance is not on record, or its file is gone"),
                    ("0119", "it is on record under another SOP class"),
                ),
            ),
            (
                "As SCU: N-EVENT-REPORT of a destination that was asked, over the association that asked or a later "
                "one from the destination's host or its reports_from, with role selection."
            ),
            Table(
                ("N-EVENT-REPORT status", "meaning"),
                (
                    ("0000", "taken"),
                    ("0110", "nobody, or somebody else, was asked this; or the report cannot be recorded"),
                    ("0115", "no transaction UID, or an instance without UIDs"),
                ),
            ),
        ),
    )
