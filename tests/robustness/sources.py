"""The whole files that are damaged: small phantoms, and small real files where there are any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.phantoms import PhantomSpec, write

Series = tuple[bytes, ...]

CT = PhantomSpec(slices=3, rows=16, columns=12)
MR = PhantomSpec(modality="MR", slices=3, rows=16, columns=12)
IN_PYTHON: tuple[PhantomSpec, ...] = (
    CT,
    replace(CT, multiframe=True),
    replace(MR, multiframe=True),
    replace(MR, transfer_syntax=ImplicitVRLittleEndian),
    replace(CT, transfer_syntax=DeflatedExplicitVRLittleEndian),
    replace(CT, transfer_syntax=RLELossless),
)
"""Decoded in the reading process."""
BY_CODECS: tuple[PhantomSpec, ...] = tuple(
    replace(CT, rows=32, columns=32, transfer_syntax=UID(syntax)) for syntax in (JPEG2000Lossless, JPEGLSLossless)
)
"""Decoded by a child process of each reader, which takes its time to start."""
LARGEST = 600_000
MOST_FILES = 3


def phantoms(specs: tuple[PhantomSpec, ...], folder: Path) -> list[Series]:
    """The files of some phantoms."""
    return [tuple(path.read_bytes() for path in write(spec, folder / str(number))) for number, spec in enumerate(specs)]


def real_series(test_data: Path | None, *, by_codecs: bool) -> list[Series]:
    """Real files that their authors call hard; none where the folder is not there.

    Args:
        test_data: Folder of real series.
        by_codecs: Those that a codec has to decode, or the others.
    """
    series: list[Series] = []
    for folder in sorted(test_data.glob("hard_*")) if test_data else ():
        files = [path for path in sorted(folder.rglob("*.dcm")) if path.stat().st_size <= LARGEST]
        chosen = [path for path in files if any(word in str(path) for word in CODEC_WORDS) == by_codecs]
        if "variants" in folder.name:
            series += [(path.read_bytes(),) for path in chosen]
        elif chosen:
            series.append(tuple(path.read_bytes() for path in chosen[:MOST_FILES]))
    return series


CODEC_WORDS = ("jpeg", "j2k")
