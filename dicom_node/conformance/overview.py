"""Overview and introduction of the statement (PS3.2 A.1 and A.3; tables of N.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_node import __version__
from dicom_node.conformance.contexts import Activity, ContextClaim, is_storage
from dicom_node.conformance.document import Items, Section, Table
from dicom_node.deliver.association import sop_class_name
from dicom_node.settings import Settings

NOT_A_DEVICE: Final = "For research use; not a medical device."


def overview(
    settings: Settings,
    accepted: Sequence[ContextClaim],
    archive: Sequence[ContextClaim],
    initiated: Sequence[Activity],
) -> Section:
    """What the product does, and every network service by its role."""
    parts = [
        (
            "dicom-node receives CT and MR series, segments them with a neural network, verifies the results, and "
            "sends them as Segmentation, RT Structure Set or Secondary Capture to its destinations."
        ),
        NOT_A_DEVICE,
        (
            "This statement was made from a configuration and holds for it: "
            f"AE title {settings.node.ae_title}, {len(settings.destinations)} destinations, {len(settings.peers)} "
            "entries of peers."
        ),
    ]
    storing = next(item for item in initiated if item.name == "Store results")
    return Section(
        "Conformance statement overview",
        tuple(parts),
        (
            Section("Network services", (_services(accepted, storing, initiated),)),
            *([Section("Network services of the embedded archive", _archive(archive))] if archive else []),
            Section("Media services", ("None.",)),
            Section("Character sets and security", ("See the sections on character sets and on security.",)),
        ),
    )


def introduction() -> Section:
    """Audience, remarks, terms and sources."""
    return Section(
        "Introduction",
        (),
        (
            Section("Revision", (f"Of dicom-node {__version__}; made by the command dicom-node conformance.",)),
            Section(
                "Audience and remarks",
                (
                    (
                        "For those who connect systems of a hospital to this node. The statement allows a first "
                        "comparison with the statements of the other systems; it does not replace a test of "
                        "both together. "
                        'The command "dicom-node echo DESTINATION" asks a destination which SOP classes it accepts.'
                    ),
                ),
            ),
            Section(
                "Terms",
                (
                    Items(
                        (
                            (
                                "Case: what is segmented together. Its identity is a hash of the source's SOP Instance "
                                "UIDs, of the card and of its weights; every UID that is made derives from it."
                            ),
                            "Card: one use of the network: modality, anatomy, structures, weights.",
                            "Destination, peer, profile, rule: the tables of these names in node.toml.",
                        )
                    ),
                ),
            ),
            Section("References", ("DICOM PS3.2, PS3.3, PS3.4, PS3.5, PS3.7, PS3.8, PS3.15, PS3.16.",)),
        ),
    )


def _services(accepted: Sequence[ContextClaim], storing: Activity, initiated: Sequence[Activity]) -> Table:
    sent = {context.sop_class for context in storing.contexts if is_storage(context.sop_class)}
    received = {context.sop_class for context in accepted if is_storage(context.sop_class)}
    rows = [
        (sop_class_name(uid), uid, _yes(uid in sent), _yes(uid in received))
        for uid in dict.fromkeys((*(context.sop_class for context in accepted), *sorted(sent)))
        if is_storage(uid)
    ]
    others: dict[str, set[str]] = {}
    for context in (*accepted, *(context for item in initiated for context in item.contexts)):
        if not is_storage(context.sop_class):
            others.setdefault(context.sop_class, set()).update(context.role.split("/"))
    rows += [(sop_class_name(uid), uid, _yes("SCU" in roles), _yes("SCP" in roles)) for uid, roles in others.items()]
    return Table(("SOP class", "SOP class UID", "user of service (SCU)", "provider of service (SCP)"), tuple(rows))


def _archive(archive: Sequence[ContextClaim]) -> tuple[Table | str, ...]:
    services = tuple(context for context in archive if not is_storage(context.sop_class))
    rows = tuple((sop_class_name(item.sop_class), item.sop_class, "No", "Yes") for item in services)
    count = len(archive) - len(services)
    return (
        Table(("SOP class", "SOP class UID", "user of service (SCU)", "provider of service (SCP)"), rows),
        (
            f"And {count} storage SOP classes, listed with the application entity: provider of C-STORE, and user of it "
            "as the sub-operation of a C-GET."
        ),
    )


def _yes(value: bool) -> str:
    return "Yes" if value else "No"
