"""Gives damaged files to reading processes, and counts what became of them."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.robustness.reader import READY

ROOT = Path(__file__).parents[2]
START_SECONDS = 180.0
ANSWER_SECONDS = 90.0
"""A codec may take a minute of a frame before the node ends it."""


@dataclass
class Tally:
    """What became of the inputs of one kind.

    Attributes:
        kind: What was done with them.
        counts: ``taken``, ``refused``, ``crash`` and ``hang``.
        findings: Of each crash and hang the input's number and the reason.
        peak_bytes: Largest resident memory of the reading process, and of the listener.
        child_bytes: Of its largest child.
    """

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    child_bytes: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing crashed and nothing hung."""
        return not self.counts["crash"] and not self.counts["hang"]


def read_damaged(kind: str, inputs: int, seed: int, told: Callable[[str], None] = lambda _: None) -> Tally:
    """Read damaged files in a process that is started again when it dies.

    Args:
        kind: ``identity``, ``files``, ``codecs`` or ``sameness``.
        inputs: How many.
        seed: The same seed gives the same inputs.
        told: Is called with every finding, and now and then with the progress.
    """
    tally = Tally(kind)
    number = 0
    while number < inputs:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "tests.robustness.reader", folder, str(seed), kind]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
            )
            try:
                number = _feed(process, tally, number, inputs, told)
            finally:
                process.kill()
                process.communicate()
    return tally


def _feed(process: subprocess.Popen[str], tally: Tally, number: int, inputs: int, told: Callable[[str], None]) -> int:
    """Ask one process for one input after the other; the number of the next input when it died or all were read."""
    assert process.stdin is not None
    if _answer(process, START_SECONDS) != READY:
        raise RuntimeError("the reading process did not start")
    while number < inputs:
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        answer = _answer(process, ANSWER_SECONDS)
        number += 1
        if not answer:
            process.kill()
            process.wait()
            result = "hang" if answer is None else "crash"
            detail = "no answer" if answer is None else f"the process died ({process.returncode})"
        else:
            result, detail, own, child = json.loads(answer)
            tally.peak_bytes, tally.child_bytes = max(tally.peak_bytes, own), max(tally.child_bytes, child)
        tally.counts[result] += 1
        if result in {"crash", "hang"}:
            tally.findings.append(f"{tally.kind} {number - 1} {result}: {detail}")
            told(tally.findings[-1])
        if number % 1000 == 0:
            told(f"{tally.kind}: {number} of {inputs}")
        if not answer:
            break
    return number


def _answer(process: subprocess.Popen[str], seconds: float) -> str | None:
    """A line; empty where the process is gone, None where none came in time."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], seconds)[0]:
        return None
    return process.stdout.readline().strip()
