"""TotalSegmentator's example CT with its labels as a torso label map.

The labels say which voxel belongs to which structure; what they leave open (muscle, fat, gas, costal cartilage) is read
from the CT itself, so that the interior is a real one. The labels are another network's output, not a person's.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.label_maps import (
    FAT_MARGIN_MM,
    IntVolume,
    LabelMap,
    Mask,
    axial_hull,
    ball,
    dilate,
    erode,
    fill_axial,
    largest_part,
    outside_distance,
    paint,
)
from models.nifti import read_nifti
from models.tissues import IGNORED, Tissue, structure_label
from models.torso_maps import SPACING, refine_tissues
from models.torso_names import Row, torso_row

IMAGE, LABELS, TABLE = "example_ct.nii.gz", "example_seg_full_v1.nii.gz", "labels_total_v1.json"
GAS_BELOW, FAT_BELOW, HARD_ABOVE, METAL_ABOVE = -300.0, -30.0, 160.0, 1800.0
"""HU that divide what the labels leave open."""

DISC_MM = 20.0
"""Greatest distance between two vertebral bodies, their edges rounded off, that a disc fills."""


def read_totalsegmentator(folder: Path) -> LabelMap:
    """The example torso (diaphragm to below the hip joints), on cubic voxels, with the CT's own fat, muscle and gas.

    The left hip holds an implant: metal and what its artefacts hide teach nothing.
    """
    scans = [read_nifti(folder / name) for name in (IMAGE, LABELS)]
    if any(max(abs(mm - 3.0) for mm in scan.spacing) > 0.01 for scan in scans):
        raise ValueError(f"{folder}: expected grids of 3 mm, got {[scan.spacing for scan in scans]}")
    source, hounsfield = _finer(scans[1].voxels, scans[0].voxels)
    label, tissue = paint(source, *_table(folder / TABLE, source), "torso")
    body = _body(hounsfield)
    core = _core(hounsfield, body, label)
    _fill(tissue, hounsfield, core)
    _discs(label, tissue, hounsfield)
    _canal(label, tissue, core)
    refine_tissues(label, tissue)
    metal = dilate((hounsfield > METAL_ABOVE) & body, 6 / SPACING)
    label[metal & np.isin(label, (0, structure_label("torso", "Femur_L"), structure_label("torso", "Pelvis_L")))] = (
        IGNORED
    )
    # Three voxels of heart at the upper edge are no heart to learn from.
    label[label == structure_label("torso", "Heart")] = IGNORED
    tissue[~core] = Tissue.AIR
    return LabelMap(
        "totalsegmentator_torso",
        "torso",
        "Apache-2.0",
        SPACING,
        label,
        tissue,
        outside_distance(core, SPACING),
        image=np.asarray(hounsfield.round().clip(-1024, 3071), np.int16),
    )


def _table(path: Path, source: IntVolume) -> tuple[dict[str, int], dict[str, Row]]:
    """Labels and rows, by name, of what the volume holds.

    Raises:
        ValueError: It holds a structure whose name is not known.
    """
    names: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    present = set(np.unique(source).tolist())
    table = {name: int(number) for number, name in names.items() if int(number) in present}
    rows = {name: row for name in table if (row := torso_row(name)) is not None}
    if unknown := sorted(set(table) - set(rows)):
        raise ValueError(f"{path}: expected structures that are known, got {', '.join(unknown)}")
    return table, rows


def _finer(
    source: npt.NDArray[np.float32], hounsfield: npt.NDArray[np.float32]
) -> tuple[IntVolume, npt.NDArray[np.float32]]:
    """Labels and CT on the maps' grid with the fat margin; label borders are smoothed, not repeated as steps."""
    share = 3.0 / SPACING
    best = np.zeros(tuple(round(n * share) for n in source.shape), np.float32)
    found = np.zeros(best.shape, np.int16)
    for number in np.unique(source):
        soft = _zoom((source == number).astype(np.float32), share)
        won = soft > best
        best[won], found[won] = soft[won], int(number)
    margin = round(FAT_MARGIN_MM / SPACING)
    around = ((0, 0), (margin, margin), (margin, margin))
    return np.pad(found, around), np.pad(_zoom(hounsfield, share), around, constant_values=-1000)


def _zoom(volume: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.float32]:
    return np.asarray(ndimage.zoom(volume, share, order=1, mode="nearest", grid_mode=True), np.float32)


def _body(hounsfield: npt.NDArray[np.float32]) -> Mask:
    """The trunk without the table: what is denser than foam, opened, its largest part, its holes filled."""
    dense = np.stack([ndimage.binary_opening(section, iterations=3) for section in hounsfield > GAS_BELOW])
    return fill_axial(largest_part(dense))


def _core(hounsfield: npt.NDArray[np.float32], body: Mask, label: npt.NDArray[np.int8]) -> Mask:
    """The body within its subcutaneous fat: the hull of muscle, bone and organs."""
    flesh = (hounsfield > FAT_BELOW) & erode(body, 8 / SPACING)
    flesh = np.stack([ndimage.binary_opening(section, iterations=2) for section in flesh])
    return (axial_hull(flesh | (label > 0), 2.0) & body) | (label > 0)


def _fill(tissue: npt.NDArray[np.uint8], hounsfield: npt.NDArray[np.float32], core: Mask) -> None:
    """Tissue of what the labels leave open, by the CT. In place."""
    smooth = ndimage.gaussian_filter(hounsfield, 0.7)
    free = core & (tissue == Tissue.AIR)
    tissue[free] = Tissue.MUSCLE
    tissue[free & (smooth < FAT_BELOW)] = Tissue.VISCERAL_FAT
    tissue[free & (smooth < GAS_BELOW)] = Tissue.BOWEL_GAS
    tissue[free & (smooth > HARD_ABOVE)] = Tissue.CARTILAGE
    for organ, gas in ((Tissue.COLON, Tissue.BOWEL_GAS), (Tissue.STOMACH, Tissue.STOMACH_GAS)):
        tissue[(tissue == organ) & (smooth < GAS_BELOW)] = gas


def _canal(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], core: Mask) -> None:
    """The spinal canal: the hole of the vertebrae. In place."""
    spine = label == structure_label("torso", "Spine")
    canal = fill_axial(erode(dilate(spine, 3), 3)) & core & (label == 0)
    tissue[canal & np.isin(tissue, (Tissue.MUSCLE, Tissue.VISCERAL_FAT))] = Tissue.SPINAL_CANAL


def _discs(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], hounsfield: npt.NDArray[np.float32]) -> None:
    """What lies between the vertebrae: the labels leave it out, the card's spine holds it. In place."""
    number = structure_label("torso", "Spine")
    column = ndimage.binary_opening(label == number, ball(4))  # the vertebral bodies, without their processes
    high = round(DISC_MM / SPACING)
    between = ndimage.binary_closing(column, np.ones((high + 1, 1, 1)), border_value=0)
    smooth = ndimage.gaussian_filter(hounsfield, 0.7)
    soft = (smooth > 20) & (smooth < 250) & np.isin(tissue, (Tissue.MUSCLE, Tissue.VISCERAL_FAT, Tissue.CARTILAGE))
    discs = ndimage.binary_closing(between & (label == 0) & soft, ball(1)) & (label == 0)
    label[discs], tissue[discs] = number, Tissue.DISC
