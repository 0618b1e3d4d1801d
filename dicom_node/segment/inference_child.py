"""The process that runs the networks, as ``python -m dicom_node.segment.inference_child``.

Started by :class:`~dicom_node.segment.inference_process.InferenceProcess`; reads requests and writes answers as JSON
lines on an inherited socket, and ends when its parent does. It reads voxels and their place in space, and nothing that
says whose they are.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch

from dicom_node.errors import NodeError
from dicom_node.logs import configure_logs, get_logger
from dicom_node.segment.exchange import StoredFolder, load_volume, save_segmentation
from dicom_node.segment.segmenter import Segmenter

_log = get_logger("segment")
_PR_SET_PDEATHSIG = 1
_NETWORK_ERRORS = (RuntimeError, MemoryError, OSError, ArithmeticError, LookupError, TypeError, ValueError)


def main() -> int:
    """Answer requests until the channel closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--device", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args()
    _die_with(options.parent)
    configure_logs(json=not sys.stderr.isatty())
    if options.threads:
        torch.set_num_threads(options.threads)
    segmenter = Segmenter(options.device or None, compiled=options.compiled)
    with socket.socket(fileno=options.channel) as channel, channel.makefile("rwb") as lines:
        for line in lines:
            lines.write(json.dumps(_answer(segmenter, json.loads(line))).encode("utf-8") + b"\n")
            lines.flush()
    return 0


def _answer(segmenter: Segmenter, request: dict[str, str]) -> dict[str, Any]:
    try:
        volume = load_volume(StoredFolder(Path(request["volume"]), request["volume_sha256"]), nameless=True)
        segmentation = segmenter.segment(volume, request["card"])
        stored = save_segmentation(segmentation, Path(request["output"]))
    except NodeError as error:
        return {"error": type(error).__name__, "message": error.message}
    except _NETWORK_ERRORS as error:
        _log.exception("inference failed", card=request["card"])
        return {"error": "SegmentationFailed", "message": f"inference failed: {type(error).__name__}: {error}"}
    return {
        "sha256": stored.sha256,
        "seconds": segmentation.seconds,
        "peak_bytes": _peak_bytes(),
        "device": str(segmenter.device),
    }


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent ends (``prctl(2)``); end at once where it has already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent process has ended")


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(main())
