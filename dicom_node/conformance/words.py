"""Words that several parts of the statement share."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.uid import UID

from dicom_node.conformance.contexts import ContextClaim
from dicom_node.conformance.document import Block, Table
from dicom_node.deliver.association import sop_class_name
from dicom_node.settings import Settings


def listening_at(settings: Settings) -> str:
    """Addresses and ports of the listener, the TLS port named as such."""
    node, tls = settings.node, settings.tls
    ports = [f"{node.bind}:{node.port}"] if tls is None or tls.plain else []
    return ", ".join(ports + ([f"{node.bind}:{tls.port} (TLS)"] if tls is not None else []))


def context_blocks(contexts: Sequence[ContextClaim]) -> tuple[Block, ...]:
    """Presentation contexts: the SOP classes that share their transfer syntaxes, then these, by preference."""
    blocks: list[Block] = []
    for syntaxes in dict.fromkeys(context.syntaxes for context in contexts):
        classes = [context for context in contexts if context.syntaxes == syntaxes]
        rows = tuple((sop_class_name(item.sop_class), item.sop_class, item.role) for item in classes)
        blocks += [
            Table(("SOP class", "SOP class UID", "role of the node"), rows),
            "These in:",
            Table(("transfer syntax", "transfer syntax UID"), tuple((UID(uid).name, uid) for uid in syntaxes)),
        ]
    return tuple(blocks)
