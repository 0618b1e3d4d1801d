"""``python -m tests.phantoms``: write a phantom series to a folder."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tests.phantoms import spec_for, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.phantoms", description="Write an analytic CT or MR series.")
    parser.add_argument("--modality", choices=["CT", "MR"], default="CT")
    parser.add_argument("--anatomy", choices=["shapes", "torso", "knee"], default="torso")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    parser.add_argument("--slices", type=int, help="number of slices")
    parser.add_argument("--size", type=int, help="rows and columns")
    parser.add_argument("--multiframe", action="store_true", help="one Enhanced object instead of one per slice")
    parser.add_argument("--seed", type=int, default=0, help="other noise, other UIDs")
    parser.add_argument("--patient-id", help="PatientID")
    wanted = parser.parse_args()
    spec = spec_for(wanted.modality, wanted.anatomy, wanted.slices, wanted.size)
    spec = replace(spec, multiframe=wanted.multiframe, seed=wanted.seed)
    if wanted.patient_id:
        spec = replace(spec, patient_id=wanted.patient_id)
    paths = write(spec, wanted.output)
    sys.stdout.write(f"{len(paths)} file(s) of a {wanted.modality} {wanted.anatomy} phantom in {wanted.output}\n")


if __name__ == "__main__":
    main()
