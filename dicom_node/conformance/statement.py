"""The whole statement of a configuration as one value: what is claimed, and the text that says it."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node import __version__
from dicom_node.conformance.contexts import (
    Activity,
    ContextClaim,
    accepted_contexts,
    activities,
    archive_contexts,
)
from dicom_node.conformance.document import Section
from dicom_node.conformance.networking import networking
from dicom_node.conformance.objects import ObjectClaim, annexes, created_objects
from dicom_node.conformance.overview import introduction, overview
from dicom_node.conformance.security import character_sets, security
from dicom_node.settings import Settings


@dataclass(frozen=True)
class Statement:
    """A conformance statement (PS3.2).

    Attributes:
        title: With the version.
        accepted: Presentation contexts that the listener accepts from peers without restrictions of their own.
        archive: Presentation contexts that the embedded archive accepts; empty where there is none.
        activities: Why associations are initiated, and what is proposed.
        objects: What the node creates.
        sections: The text. The outline is that of PS3.2 Annex A, the overview has the tables of Annex N.
    """

    title: str
    accepted: tuple[ContextClaim, ...]
    archive: tuple[ContextClaim, ...]
    activities: tuple[Activity, ...]
    objects: tuple[ObjectClaim, ...]
    sections: tuple[Section, ...]


def conformance_statement(settings: Settings) -> Statement:
    """The statement: what the node does on the network with these settings.

    Args:
        settings: The running configuration.

    Raises:
        SettingsError: A destination has a profile that does not exist.
    """
    accepted, archive = accepted_contexts(settings), archive_contexts(settings)
    initiated, objects = activities(settings), created_objects(settings)
    return Statement(
        title=f"DICOM conformance statement: dicom-node {__version__}",
        accepted=accepted,
        archive=archive,
        activities=initiated,
        objects=objects,
        sections=(
            overview(settings, accepted, archive, initiated),
            introduction(),
            networking(settings, accepted, archive, initiated),
            Section("Media interchange", ("DICOM media are neither written nor read.",)),
            character_sets(),
            security(settings),
            annexes(objects),
        ),
    )
