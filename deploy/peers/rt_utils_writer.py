"""Writes an RTSTRUCT with rt-utils; runs in the environment of deploy/peers-constraints.txt.

python rt_utils_writer.py SERIES MASKS.npz OUTPUT.dcm

SERIES is a folder of single-frame images. MASKS.npz holds ``labels``, (k, j, i) with slices ascending along the planes'
normal, and ``names``, the name of each label from 1. Prints one JSON object: ``seconds`` from masks to file,
``series_seconds`` of reading the series before that, peaks of resident memory (VmHWM) ``before_mib`` and ``peak_mib``;
or ``error``.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from peak import peak_mib
from rt_utils import RTStructBuilder


def write(series: Path, masks: Path, output: Path) -> dict[str, float]:
    """What was measured."""
    with np.load(masks) as archive:
        labels, names = archive["labels"], archive["names"].tolist()
    began = time.perf_counter()
    structure_set = RTStructBuilder.create_new(dicom_series_path=str(series))
    read, before = time.perf_counter(), peak_mib()
    for number, name in enumerate(names, start=1):
        structure_set.add_roi(mask=np.moveaxis(labels == number, 0, -1), name=name)
    structure_set.save(str(output))
    written = time.perf_counter()
    return {
        "seconds": written - read,
        "series_seconds": read - began,
        "before_mib": before,
        "peak_mib": peak_mib(),
    }


if __name__ == "__main__":
    try:
        with redirect_stdout(sys.stderr):
            measured: dict[str, object] = dict(write(*map(Path, sys.argv[1:4])))
    except Exception as error:  # noqa: BLE001 - what it cannot write is its answer
        measured = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(measured))
