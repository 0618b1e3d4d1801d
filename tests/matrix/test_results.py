"""SEG and RTSTRUCT of every case, read by readers that share nothing with the node."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from dicom_node.results.verification import verify_rtstruct, verify_seg
from tests.matrix import agreement, even_odd, seg_frames, source_planes
from tests.matrix.agreement import Reading, dice, worst
from tests.matrix.even_odd import read_structures
from tests.matrix.seg_frames import read_segments
from tests.matrix.written import EMPTY, PROFILE, Written
from tests.phantoms.shapes import shapes_parts, shapes_scale
from tests.phantoms.spec import CENTRE_MM

pytestmark = pytest.mark.slow  # the 90 series together

ASYMMETRIC = "Liver"
"""The L: no mirror or turn of it is itself."""
EDGE_MM = 1e-3
"""Voxel centres this near to a face of the L may fall on either side of it."""


@pytest.fixture(scope="module")
def segments(written: Written) -> dict[str, Reading]:
    return read_segments(written.seg, written.planes)


@pytest.fixture(scope="module")
def rois(written: Written) -> dict[str, Reading]:
    return read_structures(written.rtstruct, written.planes)


def test_the_gate_lets_both_out(written: Written) -> None:
    assert verify_seg(written.seg, written.labels, written.volume, PROFILE).least_dice == 1.0
    assert verify_rtstruct(written.rtstruct, written.labels, written.volume, PROFILE).least_dice == 1.0


def test_seg_has_every_voxel_of_every_structure(written: Written, segments: dict[str, Reading]) -> None:
    assert EMPTY not in segments
    assert set(segments) == set(written.truth)
    assert worst(segments, written.truth, written.planes.voxel_volumes).dice == 1.0


def test_frames_lie_on_their_source_images_and_name_them(segments: dict[str, Reading]) -> None:
    assert all(reading.references for reading in segments.values())
    assert max(reading.off_plane_mm for reading in segments.values()) < 0.01


def test_contours_enclose_every_structure(written: Written, rois: dict[str, Reading]) -> None:
    assert EMPTY not in rois
    assert set(rois) == set(written.truth)
    agreed = worst(rois, written.truth, written.planes.voxel_volumes)
    assert agreed.dice >= 0.995, agreed
    assert agreed.volume_error <= 0.001, agreed


def test_area_within_contours_is_the_structures_volume(written: Written, rois: dict[str, Reading]) -> None:
    """Sharper than counting pixels: thousandths of a pixel show."""
    planes = written.planes
    extents = planes.voxel_volumes / (planes.spacing[0] * planes.spacing[1])
    for name, reading in rois.items():
        true = float(written.truth[name].sum(axis=(1, 2)) @ planes.voxel_volumes)
        assert reading.area_mm2 is not None
        assert float(reading.area_mm2 @ extents) == pytest.approx(true, rel=0.001), name


def test_contours_lie_on_their_source_images_and_name_them(rois: dict[str, Reading]) -> None:
    assert all(reading.references for reading in rois.values())
    assert max(reading.off_plane_mm for reading in rois.values()) < 0.01


def test_contours_say_the_same_joined_and_by_even_odd(written: Written, rois: dict[str, Reading]) -> None:
    """Some readers join the contours of a slice, others make holes of nested ones: both must see one thing."""
    for name, reading in read_structures(written.rtstruct, written.planes, union=True).items():
        np.testing.assert_array_equal(reading.mask, rois[name].mask, err_msg=name)


def test_asymmetric_structure_is_not_mirrored(
    written: Written, segments: dict[str, Reading], rois: dict[str, Reading]
) -> None:
    """In the patient, not in the grid: the L's voxels lie where its formula says, and in no mirror image of it."""
    for found in (segments[ASYMMETRIC], rois[ASYMMETRIC]):
        assert _in_the_patient(written, found) == 1.0
        reach = np.ptp(written.planes.points_of(found.mask), axis=0)
        assert all(_in_the_patient(written, found, mirrored=axis) < 0.9 for axis in np.flatnonzero(reach))


def test_readers_import_nothing_of_the_node() -> None:
    for module in (agreement, even_odd, seg_frames, source_planes):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
        assert not [name for name in names if name.startswith("dicom_node")], module.__name__


def _in_the_patient(written: Written, found: Reading, mirrored: int | None = None) -> float:
    """Share of the structure's voxels that lie in the formula of the L, or in its mirror image along x, y or z."""
    points = written.planes.points_of(found.mask) - CENTRE_MM
    if mirrored is not None:
        along = points[:, mirrored]
        points[:, mirrored] = along.min() + along.max() - along
    parts = [part.solid for part in shapes_parts(shapes_scale(written.volume.geometry)) if part.label == 1]
    inside = np.zeros(len(points), dtype=bool)
    for nudge in (-EDGE_MM, 0.0, EDGE_MM):
        x, y, z = (points + nudge).T
        for part in parts:
            inside |= part.contains(x, y, z)
    return float(inside.mean())


def test_dice_counts_what_lies_outside() -> None:
    mask = np.ones((1, 1, 4), dtype=bool)
    assert dice(Reading(mask), mask) == 1.0
    assert dice(Reading(mask, outside=4), mask) == pytest.approx(8 / 12)
