"""``python -m tests.viewer deploy/pictures``: the pictures of the README, whole results of the phantoms in OHIF."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image

from tests.phantoms import spec_for
from tests.viewer.ohif import viewer
from tests.viewer.servers import archive_with_viewer
from tests.viewer.studies import Subject, write_study

SUBJECTS = {
    "BINARY": Subject(replace(spec_for("CT", "torso", 88, 256), slices=9, stack_offset=27.5), ()),
    "RTSTRUCT": Subject(replace(spec_for("MR", "knee", 60, 256), slices=9, stack_offset=4.5), ()),
}
"""Every structure that lies in the slices."""
NAMES = {"BINARY": "ohif-seg-ct", "RTSTRUCT": "ohif-rtstruct-mr"}


def main(output: Path) -> None:
    """Write one picture of a SEG on CT and one of an RTSTRUCT on MR."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        studies = {kind: write_study(subject, folder / kind) for kind, subject in SUBJECTS.items()}
        with (
            archive_with_viewer(folder / "servers", *(study.folder for study in studies.values())) as address,
            viewer(address, 1280, 760) as ohif,
        ):
            for kind, study in studies.items():
                shown = study.instance_number(study.middle)
                view = ohif.show(study.study_uid, study.series_uid, study.result(kind).series_uid, shown)
                Image.fromarray(view.picture).save(output / f"{NAMES[kind]}.jpg", quality=86, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
