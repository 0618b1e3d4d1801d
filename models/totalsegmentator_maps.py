"""TotalSegmentator's example CT with its labels as a torso label map.

The labels say which voxel belongs to which structure; what they leave open (muscle, fat, gas, costal cartilage) is read
from the CT itself, so that the interior is a real one. The labels are another network's output, not a person's.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.label_maps import (
    FAT_MARGIN_MM,
    LabelMap,
    Mask,
    axial_hull,
    ball,
    dilate,
    erode,
    fill_axial,
    largest_part,
    outside_distance,
)
from models.tissues import IGNORED, STRUCTURES, Tissue, structure_label
from models.torso_maps import SPACING, refine_tissues

IMAGE, LABELS, TABLE = "example_ct.nii.gz", "example_seg_full_v1.nii.gz", "labels_total_v1.json"
GAS_BELOW, FAT_BELOW, HARD_ABOVE, METAL_ABOVE = -300.0, -30.0, 160.0, 1800.0
"""HU that divide what the labels leave open."""

DISC_MM = 20.0
"""Greatest distance between two vertebral bodies, their edges rounded off, that a disc fills."""

_SIDES = (("left", "L"), ("right", "R"))
_SINGLE: dict[str, tuple[Tissue, str | None]] = {
    "liver": (Tissue.LIVER, "Liver"),
    "spleen": (Tissue.SPLEEN, "Spleen"),
    "gallbladder": (Tissue.GALLBLADDER, "Gallbladder"),
    "pancreas": (Tissue.PANCREAS, "Pancreas"),
    "stomach": (Tissue.STOMACH, "Stomach"),
    "aorta": (Tissue.ARTERY, "A_Aorta"),
    "inferior_vena_cava": (Tissue.VEIN, "V_Venacava_I"),
    "portal_vein_and_splenic_vein": (Tissue.PORTAL_VEIN, None),
    "urinary_bladder": (Tissue.BLADDER, "Bladder"),
    "sacrum": (Tissue.TRABECULAR_BONE, "Sacrum"),
    "small_bowel": (Tissue.SMALL_BOWEL, None),
    "duodenum": (Tissue.SMALL_BOWEL, None),
    "colon": (Tissue.COLON, None),
}
_SIDED: dict[str, tuple[Tissue, str | None]] = {
    "kidney": (Tissue.KIDNEY_CORTEX, "Kidney"),
    "lung": (Tissue.LUNG, "Lung"),
    "hip": (Tissue.TRABECULAR_BONE, "Pelvis"),
    "femur": (Tissue.TRABECULAR_BONE, "Femur"),
    "iliopsoas": (Tissue.DEEP_MUSCLE, "Iliopsoas"),
    "autochthon": (Tissue.DEEP_MUSCLE, "ErectorSpinae"),
    "gluteus": (Tissue.DEEP_MUSCLE, "Gluteal"),
    "adrenal_gland": (Tissue.ADRENAL, None),
    "iliac_artery": (Tissue.ARTERY, None),
    "iliac_vena": (Tissue.VEIN, None),
    "rib": (Tissue.TRABECULAR_BONE, None),
}


def read_totalsegmentator(folder: Path) -> LabelMap:
    """The example torso (diaphragm to below the hip joints), on cubic voxels, with the CT's own fat, muscle and gas.

    The left hip holds an implant: metal and what its artefacts hide teach nothing.
    """
    hounsfield, source = (_oriented(folder / name) for name in (IMAGE, LABELS))
    table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
    names = {int(number): name for number, name in table.items()}
    fine, hounsfield = _finer(source, hounsfield)
    label, tissue = _paint(fine, names)
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


def _oriented(path: Path) -> npt.NDArray[np.float32]:
    """Voxels (k, j, i) along head, posterior, left; the file's grid is 3 mm along the patient's axes."""
    image = nib.load(path)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine),  # type: ignore[attr-defined,no-untyped-call]
        nib.orientations.axcodes2ornt(("L", "P", "S")),  # type: ignore[no-untyped-call]
    )
    turned = image.as_reoriented(turn)  # type: ignore[attr-defined]
    zooms = turned.header.get_zooms()[:3]
    if max(abs(zoom - 3.0) for zoom in zooms) > 0.01:
        raise ValueError(f"{path}: expected a grid of 3 mm, got {zooms}: this reader knows one file only")
    return np.asarray(turned.dataobj, dtype=np.float32).transpose(2, 1, 0)


def _finer(
    source: npt.NDArray[np.float32], hounsfield: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
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


def _row(name: str) -> tuple[Tissue, str | None]:
    if name in _SINGLE:
        return _SINGLE[name]
    if name.startswith("vertebrae"):
        return Tissue.TRABECULAR_BONE, "Spine"
    if name.startswith("heart"):
        return Tissue.MYOCARDIUM, "Heart"
    for prefix, (kind, structure) in _SIDED.items():
        if name.startswith(prefix):
            side = next(letter for word, letter in _SIDES if word in name)
            return kind, f"{structure}_{side}" if structure else None
    raise ValueError(f"expected a structure that this reader knows, got {name!r}: check the file of names")


def _paint(source: npt.NDArray[np.int16], names: dict[int, str]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
    label = np.zeros(source.shape, np.int8)
    tissue = np.full(source.shape, Tissue.AIR, np.uint8)
    for number in np.unique(source):
        if number == 0:
            continue
        kind, structure = _row(names[int(number)])
        voxels = source == number
        tissue[voxels] = kind
        label[voxels] = structure_label("torso", structure) if structure else 0
    assert len(STRUCTURES["torso"]) >= label.max()
    return label, tissue


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
