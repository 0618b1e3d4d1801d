"""Inference in a process that can be killed: a hung GPU or a crash in a kernel costs one attempt, not the worker.

This is the parent's side and never imports torch; :mod:`dicom_node.segment.inference_child` is the child. Messages are
JSON lines over a socket pair; arrays go through files (:mod:`dicom_node.segment.exchange`), their hashes through the
messages. Networks stay resident in the child between cases.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dicom_node.errors import InputRefused, NodeError, SegmentationFailed, SettingsError, StorageFull
from dicom_node.logs import get_logger
from dicom_node.segment.exchange import StoredFolder

_log = get_logger("segment")
_ERRORS: dict[str, type[NodeError]] = {
    error.__name__: error for error in (InputRefused, SettingsError, SegmentationFailed, StorageFull)
}
_LONGEST_MESSAGE = 1_000_000
_GRACE_SECONDS = 5.0
_OBITUARY_SECONDS = 1.0
"""How long a child that closed its channel may take to end, so that its own exit code is reported."""
_STDERR = 2


@dataclass(frozen=True)
class InferenceReply:
    """What the child answered.

    Attributes:
        segmentation: Where the segmentation is, for :func:`~dicom_node.segment.exchange.load_segmentation`.
        seconds: Wall-clock time by step.
        peak_bytes: Most memory the child has had resident so far (VmHWM of ``proc(5)``).
        device: Where the network ran.
    """

    segmentation: StoredFolder
    seconds: dict[str, float]
    peak_bytes: int
    device: str


class InferenceProcess:
    """The parent's side: starts the child when first needed, and again after it was killed or died.

    Args:
        device: For :class:`~dicom_node.segment.segmenter.Segmenter`.
        threads: CPU threads of the child; as many as there are cores unless given.
        compiled: Whether it compiles its networks.
        command: How the child is started.

    Requests of several threads take their turn. Use as a context manager, or call :meth:`close`.
    """

    def __init__(
        self,
        *,
        device: str | None = None,
        threads: int | None = None,
        compiled: bool = False,
        command: tuple[str, ...] | None = None,
    ) -> None:
        self._command = command or (sys.executable, "-m", "dicom_node.segment.inference_child")
        self._options = (f"--device={device or ''}", f"--threads={threads or 0}", *(["--compiled"] if compiled else []))
        self._turn = threading.Lock()
        self._closed = False
        self._child: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        # The kernel's parent-death signal follows the thread that started the child: it must live as long as we do.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference-starter")

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def request(self, volume: StoredFolder, card: str, output: Path, *, timeout_seconds: float) -> InferenceReply:
        """Have a stored volume segmented.

        Args:
            volume: As :func:`~dicom_node.segment.exchange.save_volume` returned it.
            card: Name of the card, or path of a card file.
            output: Folder for the segmentation.
            timeout_seconds: After this long, the start of the child included, the child is killed.

        Raises:
            SegmentationFailed: The child hung, died or could not start; the next request starts a new one. Or the
                network failed.
            SettingsError: The card or its weights are not usable.
            InputRefused: The card does not take the volume.
            StorageFull: No room for the labels.
        """
        message = {
            "volume": str(volume.folder.absolute()),
            "volume_sha256": volume.sha256,
            "card": card,
            "output": str(output.absolute()),
        }
        with self._turn:
            if self._closed:
                raise SegmentationFailed("the inference process was closed")
            answer = self._exchange(message, time.monotonic() + timeout_seconds, timeout_seconds)
        if "error" in answer:
            raise _ERRORS.get(answer["error"], SegmentationFailed)(answer["message"])
        return InferenceReply(
            segmentation=StoredFolder(output, answer["sha256"]),
            seconds=answer["seconds"],
            peak_bytes=answer["peak_bytes"],
            device=answer["device"],
        )

    def close(self) -> None:
        """End the child; a request under way in another thread fails, and so does every later one."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()
        with self._turn:
            self._kill()
        self._starter.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(self, message: dict[str, str], deadline: float, timeout_seconds: float) -> dict[str, Any]:
        try:
            channel = self._running()
            channel.settimeout(max(0.001, deadline - time.monotonic()))
            channel.sendall(json.dumps(message).encode("utf-8") + b"\n")
            return _receive(channel, deadline)
        except TimeoutError as error:
            self._kill()
            raise SegmentationFailed(
                f"no answer from the inference process within {timeout_seconds:g} s; it was killed"
            ) from error
        except (OSError, ValueError) as error:
            status = self._kill(patience=_OBITUARY_SECONDS)
            raise SegmentationFailed(f"the inference process ended ({_describe(status)}) before it answered") from error
        except BaseException:
            self._kill()  # an answer that nobody waits for must not be taken for the next one
            raise

    def _running(self) -> socket.socket:
        if self.pid is None or self._channel is None:
            self._kill()
            ours, theirs = socket.socketpair()
            self._channel = ours
            with theirs:
                command = [*self._command, f"--channel={theirs.fileno()}", f"--parent={os.getpid()}", *self._options]
                self._child = self._starter.submit(_start, command, theirs.fileno()).result()
            _log.info("inference process started", pid=self._child.pid)
        return self._channel

    def _kill(self, *, patience: float = 0.0) -> int | None:
        """End the child, after a while in which it may end by itself, and return its status.

        None where there was no child, or it is stuck in the kernel.
        """
        child, channel = self._child, self._channel
        self._child = self._channel = None
        if channel is not None:
            channel.close()
        if child is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return child.wait(patience)
        child.kill()
        try:
            return child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            _log.error("inference process cannot be killed: it waits inside the kernel", pid=child.pid)
            return None


def _start(command: list[str], channel: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=_STDERR, pass_fds=(channel,))


def _receive(channel: socket.socket, deadline: float) -> dict[str, Any]:
    received = b""
    while not received.endswith(b"\n"):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        channel.settimeout(remaining)
        part = channel.recv(65536)
        if not part or len(received) > _LONGEST_MESSAGE:
            raise ConnectionError("the other side closed the channel, or wrote without end")
        received += part
    answer: dict[str, Any] = json.loads(received)
    return answer


def _describe(status: int | None) -> str:
    if status is None:
        return "no status"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
