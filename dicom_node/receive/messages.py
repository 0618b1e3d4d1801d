"""What one association may hold in memory: the P-DATA of the message that is coming in is counted as it comes.

pynetdicom keeps a data set in memory until its last fragment is there, however many bytes that takes and however small
the fragments are. What is counted here is the bare structure of PS3.8 9.3.5; nothing is decoded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

from dicom_node.settings import LimitsTable

_PDV_HEADER: Final = 6  # length (4), presentation context (1), message control header (1)
_COMMAND, _LAST = 0x01, 0x02
MOST_COMMAND_BYTES: Final = 64 * 1024
"""A C-STORE command takes some 300 bytes."""
FREE_FRAGMENTS: Final = 1000
"""As many fragments of a message may have any size."""
LEAST_MEAN_FRAGMENT: Final = 128
"""Beyond these, bytes that a fragment has to hold on average; the smallest PDU that toolkits offer is 4096."""


class MessageRefused(OSError):
    """What a peer sends is beyond a limit; an OSError, since pynetdicom ends the connection upon one."""


class ReceivingMemory:
    """The bytes of data sets that all associations together hold in memory.

    Args:
        limit: How many at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._claims: dict[object, tuple[int, Callable[[], bool]]] = {}
        self._lock = threading.Lock()

    def claim(self, holder: object, size: int, alive: Callable[[], bool]) -> bool:
        """Have ``size`` bytes more for a holder; False, and nothing changed, where that is too many.

        Args:
            holder: Whose bytes they are.
            size: How many.
            alive: Whether the holder still exists; what dead ones hold is taken from them.
        """
        with self._lock:
            if self._held + size > self.limit:
                self._claims = {key: claim for key, claim in self._claims.items() if claim[1]()}
            if self._held + size > self.limit:
                return False
            self._claims[holder] = (self._claims.get(holder, (0, alive))[0] + size, alive)
            return True

    def release(self, holder: object) -> None:
        """Give back all that a holder has; safe to call more than once."""
        with self._lock:
            self._claims.pop(holder, None)

    @property
    def held(self) -> int:
        """Bytes that are claimed now."""
        with self._lock:
            return self._held

    @property
    def _held(self) -> int:
        return sum(size for size, _ in self._claims.values())


def receiving_memory(limits: LimitsTable) -> ReceivingMemory:
    """The memory that the limits allow: half of the machine's where they say nothing."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return ReceivingMemory(limits.receiving_bytes or machine // 2)


class MessageGuard:
    """Counts the message that one association is receiving.

    Args:
        limits: ``instance_bytes`` and ``instance_seconds``.
        memory: What all associations share.
        now: A clock, in seconds.
        alive: Whether the association still exists.
    """

    def __init__(
        self, limits: LimitsTable, memory: ReceivingMemory, now: Callable[[], float], alive: Callable[[], bool]
    ) -> None:
        self._limits = limits
        self._memory = memory
        self._now = now
        self._alive = alive
        self._begun_at: float | None = None
        self._command_is_whole = False
        self._command_bytes = self._data_bytes = self._fragments = 0

    def take(self, pdu: bytes | bytearray) -> None:
        """Count a P-DATA-TF PDU before it is decoded.

        Args:
            pdu: The variable field of the PDU: presentation data value items.

        Raises:
            MessageRefused: The message is too large, too slow, or cut too small; or memory is short.
        """
        position = 0
        if not pdu:
            self._fragments += 1
            if self._is_half:
                self._require_within_limits()
        while position + _PDV_HEADER <= len(pdu):
            length = int.from_bytes(pdu[position : position + 4], "big")
            if length < 2 or position + 4 + length > len(pdu):
                return  # pynetdicom finds that out too, and aborts
            self.take_fragment(pdu[position + 5], length - 2)
            position += 4 + length

    def take_fragment(self, header: int, size: int) -> None:
        """Count one presentation data value (PS3.8 9.3.5.1), before or after its bytes were read.

        Args:
            header: Its message control header.
            size: Bytes behind that.

        Raises:
            MessageRefused: As :meth:`take` does.
        """
        # A message ends with its data set; one that has none ends when the next command begins.
        if self._begun_at is None or (header & _COMMAND and self._command_is_whole):
            self._begin()
        self._fragments += 1
        if header & _COMMAND:
            self._command_bytes += size
            self._command_is_whole = bool(header & _LAST)
        else:
            self._data_bytes += size
            if not self._memory.claim(self, size, self._alive):
                raise MessageRefused(
                    f"all associations together hold {self._memory.limit} bytes in memory: [limits] receiving_bytes"
                )
        self._require_within_limits()
        if header & _LAST and not header & _COMMAND:
            self._begun_at = None

    @property
    def _is_half(self) -> bool:
        """Whether more of a message is to come for certain; a whole command may be a whole message."""
        return self._begun_at is not None and (self._data_bytes > 0 or not self._command_is_whole)

    def release(self) -> None:
        """The message was dealt with: its memory is free again."""
        self._memory.release(self)

    def _begin(self) -> None:
        self._memory.release(self)
        self._begun_at = self._now()
        self._command_is_whole = False
        self._command_bytes = self._data_bytes = self._fragments = 0

    def _require_within_limits(self) -> None:
        limits, begun = self._limits, self._begun_at or 0.0
        if self._data_bytes > limits.instance_bytes:
            raise MessageRefused(f"the data set exceeds {limits.instance_bytes} bytes: [limits] instance_bytes")
        if self._command_bytes > MOST_COMMAND_BYTES:
            raise MessageRefused(f"a command set exceeds {MOST_COMMAND_BYTES} bytes")
        if self._now() - begun > limits.instance_seconds:
            raise MessageRefused(
                f"the message is not complete after {limits.instance_seconds:g} s: [limits] instance_seconds"
            )
        if self._fragments > FREE_FRAGMENTS and (
            self._data_bytes + self._command_bytes < self._fragments * LEAST_MEAN_FRAGMENT
        ):
            raise MessageRefused(
                f"{self._fragments} fragments hold less than {LEAST_MEAN_FRAGMENT} bytes each on average"
            )
