"""The node's SEG and RTSTRUCT in the usual viewer: shown, named, coloured, and where the DICOM says."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from dicom_node.anatomy import load_anatomy
from dicom_node.profiles import Profile
from tests.viewer.ohif import View, Viewer
from tests.viewer.overlays import Placement, Projection, picture_offset, place
from tests.viewer.studies import SHIFT_PIXELS, Study

pytestmark = [pytest.mark.peer, pytest.mark.slow]

TOLERANCE_PIXELS = 2.0
LINE_PIXELS = 3.0
"""By how much an outline drawn around a structure may make it larger."""
SHOWN = [("CT", "BINARY"), ("CT", "RTSTRUCT"), ("MR", "BINARY"), ("MR", "LABELMAP"), ("MR", "RTSTRUCT")]
DIRECTIONS = {"CT": ("A", "R"), "MR": ("H", "A")}
"""Top and left of an axial and of a sagittal slice."""


def shown(ohif: Viewer, study: Study, kind: str, pictures: Path, *, shifted: bool = False) -> View:
    result = study.result(kind, shifted=shifted)
    view = ohif.show(study.study_uid, study.series_uid, result.series_uid, study.instance_number(study.middle))
    view.save(pictures / f"{study.subject.spec.modality}-{kind}{'-shifted' if shifted else ''}.png")
    return view


def placements(view: View, study: Study) -> list[Placement]:
    masks = {name: study.mask(name, study.middle) for name in study.subject.structures}
    colors = {name: load_anatomy()[name].color for name in masks}
    return place(view.picture, Projection(study.phantom.geometry, view.canvas), masks, colors)


@pytest.mark.parametrize(("modality", "kind"), SHOWN)
def test_structures_lie_where_the_dicom_says(
    modality: str, kind: str, ohif: Viewer, studies: dict[str, Study], pictures: Path
) -> None:
    study = studies[modality]
    view = shown(ohif, study, kind, pictures)
    projection = Projection(study.phantom.geometry, view.canvas)
    offset = picture_offset(view.picture, projection, study.phantom.voxels[study.middle])
    found = placements(view, study)
    print(kind, modality, "image", offset, *((item.structure, item.offset, item.growth) for item in found))
    assert ohif.take_complaints() == []
    assert view.directions == DIRECTIONS[modality]
    assert np.hypot(*offset) <= TOLERANCE_PIXELS
    for item in found:
        assert item.distance <= TOLERANCE_PIXELS, item
        assert abs(item.growth) <= LINE_PIXELS, item
    listed = {name: color for name, color in view.structures.items() if name != "Background"}
    assert listed.keys() == set(study.subject.structures)
    for name, color in listed.items():
        assert np.abs(np.subtract(color, load_anatomy()[name].color)).max() <= 2, name


@pytest.mark.parametrize(("modality", "kind"), [("CT", "BINARY"), ("MR", "RTSTRUCT")])
def test_results_a_few_millimetres_off_are_refused(
    modality: str, kind: str, ohif: Viewer, studies: dict[str, Study], pictures: Path
) -> None:
    study = studies[modality]
    view = shown(ohif, study, kind, pictures, shifted=True)
    width, _ = Projection(study.phantom.geometry, view.canvas).pixel_size
    for item in placements(view, study):
        print(kind, modality, item.structure, item.offset)
        assert item.distance > TOLERANCE_PIXELS, item
        assert np.allclose(item.offset, (SHIFT_PIXELS * width, 0), atol=TOLERANCE_PIXELS)


def test_the_viewer_reads_the_archive_and_never_writes(ohif: Viewer) -> None:
    studies = f"{ohif.address}/dicom-web/studies"
    with urllib.request.urlopen(studies, timeout=30) as answer:
        assert len(json.load(answer)) == 2
    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(urllib.request.Request(studies, b"", method=method), timeout=30)
        refusal.value.close()
        assert refusal.value.code == 403


def test_the_default_profile_makes_what_this_viewer_shows() -> None:
    assert Profile().seg in {kind for _, kind in SHOWN}
