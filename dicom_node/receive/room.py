"""Whether there is room for one more instance: the quotas, the disk, and the marks that keep a node from flapping.

A hard limit refuses whatever comes. Before it is reached, at the high mark, only the *new* series are refused: those
that have begun go on, so that as few as possible are cut in the middle. New ones are taken again at the low mark;
without the gap between the two every file that is removed would let the head of one more series in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.ledger.intake import Intake
from dicom_node.logs import get_logger
from dicom_node.receive.admission import contains, lack_of_room
from dicom_node.settings import LimitsTable, PeerTable

log = get_logger("receive")
_RECOUNT_SECONDS = 10.0


def is_high(was_high: bool, filled: float, limits: LimitsTable) -> bool:
    """Whether new series are refused for a quota, from whether they were, and the share of it that is filled."""
    return filled >= limits.high_watermark or (was_high and filled > limits.low_watermark)


def is_disk_high(was_high: bool, free_bytes: int, limits: LimitsTable) -> bool:
    """Whether new series are refused for the disk: below twice ``free_bytes``, until three times as much is free."""
    return free_bytes < 2 * limits.free_bytes or (was_high and free_bytes < 3 * limits.free_bytes)


@dataclass
class _Account:
    """A quota: its bytes, those used, and whether it is above the high mark."""

    quota: int | None
    used: int = 0
    high: bool = False


class Room:
    """What the spool has room for.

    Args:
        intake: The ledger, which knows what is in the spool and whose it is.
        limits: Quota, free space and marks.
        now: The clock, in seconds since the epoch.
        free_bytes: Free bytes of the spool's disk; asked for every instance.
    """

    def __init__(
        self, intake: Intake, limits: LimitsTable, now: Callable[[], float], free_bytes: Callable[[], int]
    ) -> None:
        self._intake = intake
        self._limits = limits
        self._now = now
        self._free_bytes = free_bytes
        self._whole = _Account(limits.spool_bytes)
        self._of_peers: dict[PeerTable, _Account] = {}
        self._disk_high = False
        self._counted_at = -_RECOUNT_SECONDS
        self._lock = threading.Lock()

    def claim(self, size: int, series_instance_uid: str, peer: PeerTable | None) -> str | None:
        """Take room for an instance.

        Args:
            size: Bytes of the file to write.
            series_instance_uid: Its series.
            peer: Who sends it.

        Returns:
            None, and the room is taken; else what is lacking.

        Raises:
            SQLAlchemyError: The ledger cannot be read.
        """
        with self._lock:
            accounts = self._accounts(peer)
            lack = self._hard_lack(size, accounts, peer) or self._lack_for_new_series(accounts, series_instance_uid)
            if lack is not None:
                self._counted_at = -_RECOUNT_SECONDS  # room may be made at any moment: count afresh next time
                return lack
            for account in accounts:
                account.used += size
            return None

    def lack(self, peer: PeerTable | None) -> str | None:
        """What is lacking for any instance at all; None while there is some room.

        Raises:
            SQLAlchemyError: The ledger cannot be read.
        """
        with self._lock:
            return self._hard_lack(1, self._accounts(peer), peer)

    def _accounts(self, peer: PeerTable | None) -> list[_Account]:
        accounts = [self._whole]
        if peer is not None and peer.spool_bytes is not None:
            if peer not in self._of_peers:
                self._of_peers[peer] = _Account(peer.spool_bytes)
                self._counted_at = -_RECOUNT_SECONDS
            accounts.append(self._of_peers[peer])
        if any(account.quota is not None for account in accounts) and (
            self._now() - self._counted_at >= _RECOUNT_SECONDS
        ):
            self._count()
        return accounts

    def _count(self) -> None:
        self._whole.used = self._intake.spool_bytes()
        senders = self._intake.spool_bytes_of_senders() if self._of_peers else {}
        for peer, account in self._of_peers.items():
            account.used = sum(
                size
                for (calling_ae, address), size in senders.items()
                if peer.ae_title in {"*", calling_ae} and contains(peer.address, address)
            )
        self._counted_at = self._now()

    def _hard_lack(self, size: int, accounts: list[_Account], peer: PeerTable | None) -> str | None:
        free = self._free_bytes()
        lack = lack_of_room(size, spool_bytes=self._whole.used, free_bytes=free, limits=self._limits)
        if lack is None and peer is not None and peer.spool_bytes is not None:
            used = accounts[-1].used
            if used + size > peer.spool_bytes:
                lack = f"quota of peer {peer.ae_title} reached: {used} of {peer.spool_bytes} bytes"
        return lack

    def _lack_for_new_series(self, accounts: list[_Account], series_instance_uid: str) -> str | None:
        for account in accounts:
            if account.quota is not None:
                account.high = is_high(account.high, account.used / account.quota, self._limits)
        was_high = self._disk_high
        self._disk_high = is_disk_high(was_high, self._free_bytes(), self._limits)
        if self._disk_high != was_high:
            log.warning("disk mark passed", new_series="refused" if self._disk_high else "taken")
        if not (self._disk_high or any(account.high for account in accounts)):
            return None
        if self._intake.has_series(series_instance_uid):
            return None
        return "room is short: only series that have begun are taken; send again later"
