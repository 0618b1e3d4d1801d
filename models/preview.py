"""Rendered patches as one PNG, to see what the network is taught."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.label_map_sources import load_maps
from models.label_maps import LabelMap
from models.plan import AnatomyPlan, read_plan
from models.randomness import Randomness
from models.rendering import RenderedPatch, render_patch
from models.tissues import IGNORED, UNSETTLED

Picture = npt.NDArray[np.uint8]
"""(rows, columns, 3)."""

_WINDOWS = {"CT": (-1.6, 2.2), "MR": (-2.5, 3.0)}


def render_preview(config: Path, out_png: Path, *, maps: Path, seed: int = 0, cache: Path | None = None) -> None:
    """One row for every map of a training configuration: a CT and an MR patch, axial and coronal, with labels.

    Args:
        config: The training TOML.
        out_png: Where the picture is written.
        maps: Folder of the label map sources.
        seed: The same seed gives the same picture.
        cache: Folder that keeps harmonised maps.
    """
    plan = read_plan(config)
    random = Randomness(seed)
    rows = [
        _row(label_map, anatomy, random)
        for anatomy in plan.anatomies.values()
        for label_map in load_maps(maps, sorted(anatomy.maps), cache=cache).values()
    ]
    write_png(stack(rows), out_png)


def _row(label_map: LabelMap, plan: AnatomyPlan, random: Randomness) -> Picture:
    wanted = plan.at(1.0).patches[0]
    parts: list[Picture] = []
    for kind in ("CT", "MR"):
        patch = render_patch(label_map, wanted.shape, kind, plan.on(wanted), random)
        parts.extend(_sections(patch))
    height = max(part.shape[0] for part in parts)
    return np.concatenate([np.pad(part, ((0, height - part.shape[0]), (0, 2), (0, 0))) for part in parts], axis=1)


def _sections(patch: RenderedPatch) -> list[Picture]:
    image, label = patch.image[0, 0].numpy(), patch.label[0].numpy()
    gray = gray_levels(image, patch.kind)
    k, j = image.shape[0] // 2, image.shape[1] // 2
    sections = []
    for where in ((k,), (slice(None, None, -1), j)):
        sections.append(np.repeat(gray[where][..., None], 3, axis=-1))
        sections.append(colours()[label[where]])
    return sections


def gray_levels(image: npt.NDArray[np.float32], kind: str) -> Picture:
    """A standardised image of `kind` as 8-bit gray, in the window of its kind."""
    low, high = _WINDOWS[kind if kind in _WINDOWS else "MR"]
    return np.asarray(np.clip((image - low) / (high - low), 0, 1) * 255, np.uint8)


def colours() -> Picture:
    """A colour per label; white for ignored and gray for unsettled, where negative indices find them."""
    table = np.random.default_rng(5).integers(40, 255, (64, 3)).astype(np.uint8)
    table[0] = 0
    table[IGNORED] = 255
    table[UNSETTLED] = 90
    return table


def stack(rows: list[Picture]) -> Picture:
    """Rows below each other, padded to one width."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 2), (0, width - row.shape[1]), (0, 0))) for row in rows], axis=0)


def write_png(picture: Picture, path: Path) -> None:
    """Write an 8-bit RGB picture (rows, columns, 3) as PNG (ISO/IEC 15948)."""
    rows, columns, _ = picture.shape
    lines = b"".join(b"\x00" + picture[row].tobytes() for row in range(rows))
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 6)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
