"""Label files of other tools on the slices of a series: overlapping masks, probabilities, layered files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dicom_node.errors import UsageError
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_file import write_label_file, write_segment_file
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.profiles import Profile
from dicom_node.results.codec import decode, encode
from dicom_node.results.label_sources import gather_labels
from dicom_node.results.structure_table import load_structure_table
from tests.phantoms import PhantomSpec, geometry_of, write

SPEC = PhantomSpec(slices=8, rows=40, columns=36, row_spacing=1.0, column_spacing=1.0)
GEOMETRY: Geometry = geometry_of(SPEC)
_, ROW, COLUMN = np.mgrid[0:8, 0:40, 0:36]
BALL = (ROW - 19.3) ** 2 + (COLUMN - 17.1) ** 2 < 120
INNER = (ROW - 19.3) ** 2 + (COLUMN - 17.1) ** 2 < 30


def mask_file(path: Path, mask: np.ndarray) -> Path:
    write_label_file(path, mask.astype(np.uint8), GEOMETRY)
    return path


def probability_file(path: Path, probability: np.ndarray) -> Path:
    write_label_file(path.with_name("frame.nii.gz"), np.zeros(GEOMETRY.shape, dtype=np.uint8), GEOMETRY)
    affine = nib.load(path.with_name("frame.nii.gz")).affine
    nib.save(nib.Nifti1Image(probability.transpose(2, 1, 0).astype(np.float32), affine), path)
    return path


def table(folder: Path, *entries: str) -> Path:
    path = folder / "S.toml"
    path.write_text("".join(f"[[structure]]\n{entry}\n" for entry in entries), encoding="utf-8")
    return path


def gather(folder: Path, *entries: str, label_map: Path | None = None) -> LabelVolume:
    return gather_labels(GEOMETRY, label_map, load_structure_table(table(folder, *entries))).label_volume


def test_masks_that_overlap_lie_in_layers_and_those_that_do_not_share_one(tmp_path: Path) -> None:
    mask_file(tmp_path / "body.nii.gz", BALL)
    mask_file(tmp_path / "organ.nii.gz", INNER)
    mask_file(tmp_path / "rest.nii.gz", ~BALL)
    found = gather(
        tmp_path,
        'name = "Liver"\nmask = "body.nii.gz"',
        'name = "Spleen"\nmask = "organ.nii.gz"',
        'name = "Heart"\nmask = "rest.nii.gz"',
    )
    assert [sorted(layer.structures) for layer in found.layers] == [[1, 3], [2]]
    for label, mask in ((1, BALL), (2, INNER), (3, ~BALL)):
        assert np.array_equal(found.mask(label), mask)


def test_a_probability_is_inside_where_it_is_one_half_and_certain_of_it(tmp_path: Path) -> None:
    probability = 1 / (1 + np.exp(np.hypot(ROW - 19.3, COLUMN - 17.1) - 11.0))
    probability_file(tmp_path / "p.nii.gz", probability)
    found = gather(tmp_path, 'label = 7\nname = "Liver"\nprobability = "p.nii.gz"')
    assert np.array_equal(found.labels == 7, probability >= 0.5)
    assert found.certainty is not None
    field = found.certainty.probability(found.labels[2], 7, 2, (slice(None), slice(None)))
    assert np.abs(field / 255 - probability[2]).max() < 0.01


def test_neighbours_are_each_others_competitors(tmp_path: Path) -> None:
    left = 1 / (1 + np.exp((COLUMN - 17.4) / 1.5))
    probability_file(tmp_path / "left.nii.gz", left)
    probability_file(tmp_path / "right.nii.gz", 1 - left)
    found = gather(
        tmp_path, 'name = "Lung_L"\nprobability = "left.nii.gz"', 'name = "Lung_R"\nprobability = "right.nii.gz"'
    )
    assert found.overlays == ()
    assert found.certainty is not None
    whole = (slice(None), slice(None))
    for label, probability in ((1, left), (2, 1 - left)):
        field = found.certainty.probability(found.labels[0], label, 0, whole)
        assert np.abs(field / 255 - probability[0])[:, 10:26].max() < 0.03


def test_every_layer_of_a_slicer_segmentation_is_read(tmp_path: Path) -> None:
    mask_file(tmp_path / "a.nii.gz", BALL)
    mask_file(tmp_path / "b.nii.gz", INNER)
    layered = gather(tmp_path, 'name = "Liver"\nmask = "a.nii.gz"', 'name = "Spleen"\nmask = "b.nii.gz"')
    write_segment_file(tmp_path / "both.seg.nrrd", layered)
    again = gather(
        tmp_path,
        'label = 1\nname = "Liver"',
        'label = 2\nname = "Spleen"',
        label_map=tmp_path / "both.seg.nrrd",
    )
    assert np.array_equal(again.mask(1), BALL)
    assert np.array_equal(again.mask(2), INNER)


def test_what_lies_beyond_the_series_is_said(tmp_path: Path) -> None:
    cropped = replace(GEOMETRY, origins=GEOMETRY.origins[:6].copy())
    mask_file(tmp_path / "map.nii.gz", 1 * BALL + 1 * INNER)
    mask_file(tmp_path / "ball.nii.gz", BALL)
    corner = np.zeros(GEOMETRY.shape)
    corner[5:7, 0, 0] = 1
    probability_file(tmp_path / "p.nii.gz", corner)
    path = table(
        tmp_path,
        'label = 2\nname = "Liver"',
        'label = 5\nname = "Spleen"\nmask = "ball.nii.gz"',
        'label = 6\nname = "Heart"\nprobability = "p.nii.gz"',
    )
    notes = gather_labels(cropped, tmp_path / "map.nii.gz", load_structure_table(path)).notes
    assert notes == (
        "labels without a [[structure]] were left out: 1",
        f"{2 * INNER[0].sum()} voxels of Liver lie outside the series and were left out",
        f"{2 * BALL[0].sum()} voxels of Spleen lie outside the series and were left out",
        "1 voxel of Heart lies outside the series and was left out",
    )


def test_probabilities_on_another_grid_are_said_to_be_interpolated(tmp_path: Path) -> None:
    probability_file(tmp_path / "p.nii.gz", BALL.astype(np.float32))
    between = replace(GEOMETRY, origins=(GEOMETRY.origins[:-1] + GEOMETRY.origins[1:]) / 2)
    path = table(tmp_path, 'label = 6\nname = "Heart"\nprobability = "p.nii.gz"')
    assert gather_labels(between, None, load_structure_table(path)).notes[0] == (
        "another grid than the series', probabilities were interpolated: p.nii.gz"
    )


def test_structures_without_a_file_need_a_label_map(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no label map was given, and these structures name no file of their own"):
        gather(tmp_path, 'label = 1\nname = "Liver"')


def test_a_label_map_that_no_structure_is_in_is_wrong_usage(tmp_path: Path) -> None:
    label_map = mask_file(tmp_path / "a.nii.gz", BALL)
    with pytest.raises(UsageError, match="every structure names a file of its own"):
        gather(tmp_path, 'name = "Liver"\nmask = "a.nii.gz"', label_map=label_map)


def test_overlapping_structures_go_all_the_way_and_come_back(tmp_path: Path) -> None:
    """What TotalSegmentator leaves: a folder of masks; here with one inside another, and smooth where it can be."""
    write(SPEC, tmp_path / "series")
    folder = tmp_path / "masks"
    folder.mkdir()
    mask_file(folder / "outer.nii.gz", BALL)
    probability_file(folder / "inner.nii.gz", 1 / (1 + np.exp(np.hypot(ROW - 19.3, COLUMN - 17.1) - 5.5)))
    inner = np.hypot(ROW - 19.3, COLUMN - 17.1) <= 5.5
    structures = table(
        tmp_path, 'name = "Liver"\nmask = "outer.nii.gz"', 'name = "Gallbladder"\nprobability = "inner.nii.gz"'
    )
    profile = Profile(external=False, contours="smooth")
    for path in encode([tmp_path / "series"], folder, structures, tmp_path / "out", profile).files:
        decoded = decode(path, [tmp_path / "series"], tmp_path / f"{path.stem}.nii")
        maps = [np.asarray(nib.load(file).dataobj).transpose(2, 1, 0) for file in decoded.paths]
        assert np.array_equal(maps[0] == 1, BALL)
        assert np.array_equal(maps[1] == 2, inner)
