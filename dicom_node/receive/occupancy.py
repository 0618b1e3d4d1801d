"""How many associations are open, in all and for each peer."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dicom_node.receive.admission import (
    LOCAL_LIMIT_EXCEEDED,
    REJECTED_TRANSIENT,
    SERVICE_PROVIDER_PRESENTATION,
    Rejection,
)
from dicom_node.settings import LimitsTable, PeerTable


class Occupancy:
    """Counts associations from their request to their end.

    Connections that have not asked for an association do not count: silent ones would keep honest peers out.

    Args:
        limits: ``associations``, for all peers together.
    """

    def __init__(self, limits: LimitsTable) -> None:
        self._limits = limits
        self._entries: dict[object, tuple[PeerTable, Callable[[], bool]]] = {}
        self._lock = threading.Lock()

    def enter(self, key: object, peer: PeerTable, alive: Callable[[], bool]) -> Rejection | None:
        """Count an association in.

        Args:
            key: What identifies it.
            peer: Whose it is.
            alive: Whether it still exists, however it ended.

        Returns:
            None, or why it is one too many (PS3.8 9.3.4: rejected for now, local limit exceeded).
        """
        with self._lock:
            self._entries = {other: entry for other, entry in self._entries.items() if entry[1]()}
            reason = self._lack(peer)
            if reason is None:
                self._entries[key] = (peer, alive)
                return None
        return Rejection(LOCAL_LIMIT_EXCEEDED, reason, REJECTED_TRANSIENT, SERVICE_PROVIDER_PRESENTATION)

    def leave(self, key: object) -> None:
        """Count an association out; safe to call more than once."""
        with self._lock:
            self._entries.pop(key, None)

    def peer_of(self, key: object) -> PeerTable | None:
        """The peer that an open association belongs to."""
        with self._lock:
            entry = self._entries.get(key)
        return entry[0] if entry else None

    def _lack(self, peer: PeerTable) -> str | None:
        if len(self._entries) >= self._limits.associations:
            return f"Local limit exceeded: {self._limits.associations} associations are open: [limits] associations"
        of_peer = sum(other is peer for other, _ in self._entries.values())
        if peer.associations is not None and of_peer >= peer.associations:
            return f'Local limit exceeded: {peer.associations} associations of peer "{peer.ae_title}" are open'
        return None
