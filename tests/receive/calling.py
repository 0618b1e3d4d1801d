"""Calling a listener under test, and looking up what it recorded."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from types import SimpleNamespace

from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_node.uids import IMAGE_CLASSES
from tests.peers import Receiver

CT = IMAGE_CLASSES[0]


def associations(node: Receiver) -> list[SimpleNamespace]:
    """Every association on record; read beside the ledger, whose transactions wait for each other."""
    with closing(sqlite3.connect(node.settings.node.home / "node.sqlite", timeout=30)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM associations ORDER BY opened_at").fetchall()
    return [SimpleNamespace(**dict(row)) for row in rows]


def associate(
    node: Receiver, *contexts: tuple[str, list[str]], called: str = "DICOM_NODE", calling: str = "TEST"
) -> object:
    entity = AE(ae_title=calling)
    proposed = [build_context(sop_class, syntaxes) for sop_class, syntaxes in contexts]
    return entity.associate("127.0.0.1", node.listener.port, contexts=proposed, ae_title=called)
