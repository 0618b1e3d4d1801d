"""What is done with each damaged file, in a process of its own: ``python -m tests.robustness.reader FOLDER SEED KIND``.

It reads the numbers of inputs, one on a line, and answers each by a line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random

import pydicom
from pydicom.errors import InvalidDicomError

from dicom_node.errors import NodeError
from dicom_node.imaging.series import assemble, find_instances, prove_series
from dicom_node.receive.identity import read_identity
from dicom_node.receive.sameness import same_object
from dicom_node.receive.spool import SpoolFile
from tests.robustness import sources
from tests.robustness.damage import SYNTAXES, damaged
from tests.robustness.elements import body_offset
from tests.robustness.sources import Series

READY = "ready"
UID_SYNTAXES = [syntax.decode() for syntax in SYNTAXES if syntax]


@dataclass(frozen=True)
class Outcome:
    """What became of one input: ``taken``, ``refused`` or ``crash``, and why."""

    result: str
    detail: str


class Reader:
    """Damages one file of a series after the other and reads it.

    Args:
        folder: An empty folder.
        seed: With an input's number it gives the input.
        series: The whole files.
    """

    def __init__(self, folder: Path, seed: int, series: list[Series]) -> None:
        self._folder = folder
        self._seed = seed
        self._series = series
        self._weights = [1 / (10_000 + sum(map(len, files))) for files in series]

    def identity(self, number: int) -> Outcome:
        """The UIDs of a damaged data set, as the listener reads them."""
        chance, files = self._draw(number)
        content = chance.choice(files)
        name, copy = damaged(content, chance)
        syntax = chance.choice(UID_SYNTAXES) if chance.random() < 0.2 else _syntax_of(content)
        encoded = copy[body_offset(content) :]
        return _outcome(name, lambda: read_identity(encoded, syntax))

    def files(self, number: int) -> Outcome:
        """A series with one damaged file, up to its voxels."""
        chance, files = self._draw(number)
        name, copy = damaged(files[0], chance)
        for k, content in enumerate((copy, *files[1:])):
            (self._folder / f"{k}.dcm").write_bytes(content)
        for path in self._folder.glob("*.dcm"):
            if int(path.stem) >= len(files):
                path.unlink()
        return _outcome(name, self._read_all)

    def sameness(self, number: int) -> Outcome:
        """A damaged file that came again under the UID of a whole one, or of another damaged one."""
        chance, files = self._draw(number)
        name, copy = damaged(files[0], chance)
        kept = self._folder / "kept"
        kept.write_bytes(damaged(files[0], chance)[1] if chance.random() < 0.3 else files[0])
        head = body_offset(files[0])
        return _outcome(name, lambda: same_object(kept, SpoolFile(copy[:head], copy[head:])))

    def _draw(self, number: int) -> tuple[Random, Series]:
        chance = Random(f"{self._seed}/{number}")
        return chance, chance.choices(self._series, self._weights)[0]

    def _read_all(self) -> None:
        discovery = find_instances([self._folder])
        refusals = [NodeError(found.reason) for found in discovery.passed_over]
        for group in discovery.series:
            try:
                assemble(prove_series(group.instances))
            except NodeError as refusal:
                refusals.append(refusal)
        if refusals:
            raise refusals[0]


def _outcome(name: str, read: Callable[[], object]) -> Outcome:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)  # numbers that overflowed are nobody's voxels
            read()
    except NodeError:
        return Outcome("refused", name)
    except BaseException:  # noqa: BLE001 - to be reported, whatever it is
        return Outcome("crash", f"{name}: {' | '.join(traceback.format_exc().splitlines()[-7:])}")
    return Outcome("taken", name)


def _syntax_of(content: bytes) -> str:
    try:
        return str(pydicom.dcmread(BytesIO(content), specific_tags=["Rows"]).file_meta.TransferSyntaxUID)
    except InvalidDicomError as error:
        raise AssertionError("the whole files are DICOM files") from error


def _peak(who: int) -> int:
    return resource.getrusage(who).ru_maxrss * 1024


def main() -> None:
    """Answer numbers until they end."""
    folder, seed, kind = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    test_data = Path(os.environ["DICOM_NODE_TEST_DATA"]) if os.environ.get("DICOM_NODE_TEST_DATA") else None
    by_codecs = kind == "codecs"
    specs = sources.BY_CODECS if by_codecs else sources.IN_PYTHON
    series = [
        *sources.phantoms(specs, folder / "whole"),
        *sources.real_series(test_data, by_codecs=by_codecs),
    ]
    scratch = folder / "damaged"
    scratch.mkdir()
    reader = Reader(scratch, seed, series)
    read = {"identity": reader.identity, "files": reader.files, "codecs": reader.files, "sameness": reader.sameness}
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what the node logs is no answer
        print(READY, file=answers, flush=True)
        for line in sys.stdin:
            outcome = read[kind](int(line))
            memory = (_peak(resource.RUSAGE_SELF), _peak(resource.RUSAGE_CHILDREN))
            print(json.dumps([outcome.result, outcome.detail, *memory]), file=answers, flush=True)


if __name__ == "__main__":
    main()
