"""Decoding where a crash does no harm.

The codecs of JPEG, JPEG-LS and JPEG 2000 are C and C++; on damaged streams they end the process they run in (GDCM 3.0:
aborted or segmentation fault within some hundred damaged files of each kind). So compressed pixel data are decoded in a
child process, with a memory limit and a time limit; when it dies, the file is refused and the node goes on.

The child says ``ready``, is asked on its standard input by one JSON line, ``{"path": ..., "frames": [...]}``, and
answers each frame by a JSON line with its shape and type, then its bytes; or by a line with an error.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from pydicom.uid import RLELossless

import dicom_node
from dicom_node.errors import SegmentationFailed, SeriesRefused
from dicom_node.imaging.instances import Instance
from dicom_node.imaging.pixels import DamagedPixels, StoredFrame, read_frames

FRAME_SECONDS = 60.0
"""Longest that one frame may take; a damaged stream can keep a codec busy for ever."""
START_SECONDS = 120.0
"""Longest that the child may take to start."""
READY = b"ready\n"
CHILD_CPU_SECONDS = 3600
"""Most CPU time of the child."""
CHILD_MEMORY_BYTES = 6 * 2**30
"""Most address space of the child; a damaged stream can claim any size."""


class FrameDecoder:
    """Decodes frames, compressed ones in a child process that is started when it is first needed.

    Use as a context manager; the child ends with it.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def frames(
        self, instance: Instance, frame_numbers: Sequence[int | None], names: Sequence[str]
    ) -> Iterator[StoredFrame]:
        """Stored values of some frames of one instance, one at a time.

        Args:
            instance: The file, native or compressed in any syntax that pydicom, gdcm or CharLS decodes.
            frame_numbers: Frames from 1, or [None] for a single-frame instance.
            names: What messages call each.

        Yields:
            (rows, columns) stored values, sign-extended from BitsStored and cleared of what lies above them.

        Raises:
            SeriesRefused: The file or its pixel data are damaged (kind ``pixel-data``).
            SegmentationFailed: The child process could not be started; no fault of the file.
        """
        syntax = instance.transfer_syntax_uid
        needs_codec = syntax.is_encapsulated and syntax != RLELossless  # pydicom's own RLE decoder is Python
        read = self._read_in_child if needs_codec else read_frames
        frames = read(instance.path, frame_numbers)
        for name in names:
            try:
                yield next(frames)
            except DamagedPixels as error:
                raise SeriesRefused(
                    f"The pixels of {name} cannot be decoded ({str(error).rstrip('.')}). "
                    "The file is damaged or cut short; send it again.",
                    kind="pixel-data",
                    SOPInstanceUID=instance.sop_instance_uid,
                ) from error

    def _read_in_child(self, path: Path, frame_numbers: Sequence[int | None]) -> Iterator[StoredFrame]:
        child = self._child = self._child or _start_child()
        assert child.stdin is not None
        assert child.stdout is not None
        request = {"path": str(path.absolute()), "frames": list(frame_numbers)}
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError as error:
            raise DamagedPixels("the decoder has ended") from error
        for _ in frame_numbers:
            with _time_limit(child, FRAME_SECONDS):
                frame = _receive(child.stdout)
            if frame is None:
                self.close()
                raise DamagedPixels("the codec crashed or did not come to an end")
            yield frame


def _start_child() -> subprocess.Popen[bytes]:
    package = str(Path(dicom_node.__file__).parents[1])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.Popen(
        [sys.executable, "-m", "dicom_node.imaging.decoding"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # codecs write to it at will
        env={**os.environ, "PYTHONPATH": path},
    )
    assert child.stdout is not None
    with _time_limit(child, START_SECONDS):
        greeting = child.stdout.readline()
    if greeting != READY:
        child.kill()
        child.communicate()
        raise SegmentationFailed(f"The decoder process did not start (exit status {child.returncode}).")
    return child


@contextmanager
def _time_limit(child: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Kill the child where the block takes longer."""
    limit = threading.Timer(seconds, child.kill)
    limit.start()
    try:
        yield
    finally:
        limit.cancel()


def _receive(answers: IO[bytes]) -> StoredFrame | None:
    """One frame; None where the child is gone."""
    line = answers.readline()
    if not line.endswith(b"\n"):
        return None
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise DamagedPixels(answer["error"])
    dtype, shape = np.dtype(answer["dtype"]), tuple(answer["shape"])
    content = answers.read(dtype.itemsize * int(np.prod(shape)))
    if len(content) < dtype.itemsize * int(np.prod(shape)):
        return None
    return np.frombuffer(content, dtype=dtype).reshape(shape)


def serve_frames(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until they end: what the child process does."""
    for line in requests:
        request = json.loads(line)
        try:
            for frame in read_frames(Path(request["path"]), request["frames"]):
                little_endian = frame.astype(frame.dtype.newbyteorder("<"), copy=False)
                head = {"dtype": little_endian.dtype.str, "shape": little_endian.shape}
                answers.write(json.dumps(head).encode() + b"\n" + little_endian.tobytes())
                answers.flush()
        except DamagedPixels as error:
            answers.write(json.dumps({"error": str(error)}).encode() + b"\n")
            answers.flush()


def main() -> None:
    """The child: its standard output is for answers alone, whatever the codecs print."""
    # A child that waits ends when its parent closes the pipe; one whose codec hangs, when its CPU time is spent.
    resource.setrlimit(resource.RLIMIT_CPU, (CHILD_CPU_SECONDS, CHILD_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_MEMORY_BYTES, CHILD_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        answers.write(READY)
        answers.flush()
        serve_frames(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
