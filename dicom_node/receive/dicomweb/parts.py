"""The body of a store request: parts of application/dicom, each stored as soon as it is whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from dicom_node.errors import InputRefused
from dicom_node.receive.dicomweb.file_form import ArrivingFile, FileMeta
from dicom_node.receive.dicomweb.outcome import Outcome
from dicom_node.receive.dicomweb.store_request import RequestRefused, busy
from dicom_node.receive.messages import ReceivingMemory
from dicom_node.receive.storing import CANNOT_UNDERSTAND, Answer
from dicom_node.settings import LimitsTable

_MOST_HEADERS: Final = 16
_MOST_HEADER_BYTES: Final = 4096

# What it warns of is raised too, and logged here with the caller's address.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

Store = Callable[[FileMeta, ArrivingFile], Answer]
"""Stores one whole part."""


class Parts:
    """Cuts a body into parts, with one of them in memory at a time.

    Args:
        boundary: What separates them.
        store: Takes each whole part.
        most: How many parts a request may have.
        limits: ``instance_bytes`` and ``instance_seconds``, of one part.
        memory: What all that arrive together may take; given back as each part is stored.
        refuse: Told of each part that is refused without being given to ``store``; gives the answer back.
    """

    def __init__(
        self,
        boundary: bytes,
        store: Store,
        most: int,
        limits: LimitsTable,
        memory: ReceivingMemory,
        refuse: Callable[[Answer], Answer],
    ) -> None:
        self.outcome = Outcome()
        self._store = store
        self._most = most
        self._limits = limits
        self._memory = memory
        self._refuse = refuse
        self._begun = 0
        self._is_over = False
        self._file = ArrivingFile()
        self._fault: InputRefused | None = None
        self._part_bytes = 0
        self._part_begun_at = time.monotonic()
        self._name = b""
        self._value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_begin,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_content,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_count=_MOST_HEADERS,
            max_header_size=_MOST_HEADER_BYTES,
        )

    def take(self, content: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            RequestRefused: The body goes beyond a limit or is no multipart; what was stored before stays.
        """
        if self._is_over:
            return  # an epilogue means nothing (RFC 2046 5.1.1)
        try:
            self._parser.write(content)
        except MultipartParseError as error:
            raise RequestRefused(400, f"the body is not multipart as announced: {error}") from error

    def finish(self) -> None:
        """The body has ended.

        Raises:
            RequestRefused: It held no part, or none that was whole.
        """
        if not self._is_over:
            if not self.outcome.parts:
                raise RequestRefused(400, "the body ended before its first part did")
            self.outcome.add(
                self._file.meta, self._refuse(Answer(CANNOT_UNDERSTAND, "the body ended inside this part"))
            )
        elif not self.outcome.parts:
            raise RequestRefused(400, "the body has no part")

    def release(self) -> None:
        """Give memory back, however the request ended."""
        self._file = ArrivingFile()
        self._memory.release(self)

    def _on_begin(self) -> None:
        self._begun += 1
        if self._begun > self._most:
            raise RequestRefused(413, f"more than {self._most} parts: [dicomweb] parts; send the rest anew")
        self._file, self._fault, self._part_bytes = ArrivingFile(), None, 0
        self._part_begun_at = time.monotonic()

    def _on_header_name(self, content: bytes, start: int, end: int) -> None:
        self._name += content[start:end]

    def _on_header_value(self, content: bytes, start: int, end: int) -> None:
        self._value += content[start:end]

    def _on_header_end(self) -> None:
        name, value = self._name.lower(), self._value.partition(b";")[0].strip().lower()
        self._name = self._value = b""
        if name == b"content-type" and value != b"application/dicom":
            self._fault = InputRefused(f"a part is {value.decode('ascii', 'replace')[:64]}, not application/dicom")

    def _on_content(self, content: bytes, start: int, end: int) -> None:
        self._part_bytes += end - start
        if self._part_bytes > self._limits.instance_bytes:
            raise RequestRefused(413, f"a part exceeds {self._limits.instance_bytes} bytes: [limits] instance_bytes")
        if time.monotonic() - self._part_begun_at > self._limits.instance_seconds:
            raise RequestRefused(
                408, f"a part is not whole after {self._limits.instance_seconds:g} s: [limits] instance_seconds"
            )
        if self._fault is not None:
            return
        if not self._memory.claim(self, end - start, lambda: True):
            raise busy("too much is arriving at the same time: [limits] receiving_bytes; send again later")
        try:
            self._file.take(content[start:end])
        except InputRefused as error:
            self._fault = error
            self._memory.release(self)

    def _on_part_end(self) -> None:
        meta = self._file.meta
        if self._fault is not None:
            self.outcome.add(None, self._refuse(Answer(CANNOT_UNDERSTAND, self._fault.message)))
        elif meta is None:
            self.outcome.add(None, self._refuse(Answer(CANNOT_UNDERSTAND, "a part ended inside its file meta")))
        else:
            self.outcome.add(meta, self._store(meta, self._file))
        self.release()

    def _on_end(self) -> None:
        self._is_over = True
