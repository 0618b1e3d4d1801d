"""A stand-in for the inference process: labels every volume with the torso phantom's own truth.

``QUICK_SECONDS`` says how long an answer takes.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import NodeError
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.process import die_with_parent
from dicom_node.segment.exchange import StoredFolder, load_volume, save_segmentation
from dicom_node.segment.segmentation import Segmentation
from models.card import load_card
from tests.phantoms import torso
from tests.phantoms.build import _slice_points
from tests.phantoms.solids import paint


def main() -> int:
    """Answer requests until the channel closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options, _ = parser.parse_known_args()
    die_with_parent(options.parent)
    with socket.socket(fileno=options.channel) as channel, channel.makefile("rwb") as lines:
        for line in lines:
            lines.write(json.dumps(_answer_or_error(json.loads(line))).encode() + b"\n")
            lines.flush()
    return 0


def _answer_or_error(request: dict[str, str]) -> dict[str, Any]:
    try:
        return _answer(request)
    except NodeError as error:
        return {"error": type(error).__name__, "message": error.message}


def _answer(request: dict[str, str]) -> dict[str, Any]:
    volume = load_volume(StoredFolder(Path(request["volume"]), request["volume_sha256"]), nameless=True)
    time.sleep(float(os.environ.get("QUICK_SECONDS", "0")))
    stored = save_segmentation(_segmentation(volume, request["card"]), Path(request["output"]))
    return {"sha256": stored.sha256, "seconds": {"network": 0.0}, "peak_bytes": 0, "device": "none"}


def _segmentation(volume: Volume, card_name: str) -> Segmentation:
    parts, anatomy, card = torso.torso_parts(), load_anatomy(), load_card(card_name)
    planes = [paint(parts, *_slice_points(volume.geometry, k))[0] for k in range(volume.geometry.shape[0])]
    structures = {label: anatomy[name] for label, name in torso.NAMES.items()}
    names = [structure.name for structure in structures.values()]
    return Segmentation(
        label_volume=LabelVolume(np.stack(planes), volume.geometry, structures),
        confidence=dict.fromkeys(names, 1.0),
        rim_entropy=dict.fromkeys(names, 0.0),
        seconds={"network": 0.0},
        card=card.name,
        card_version=card.version,
        weights_sha256=card.weights_sha256,
    )


if __name__ == "__main__":
    sys.exit(main())
