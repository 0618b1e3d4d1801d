"""The HuBMAP reference torsos, completed with the SPL atlas's structures and a simple chest.

What is modelled by the source keeps its label. Spine, vessels, muscles, ribs and stomach come from the SPL atlas (see
`models.composition`) within its levels. The chest above it is drawn simply: lungs, a thoracic column, a descending
aorta and ribs, so that chest images do not look like fat; outside the SPL levels unlabelled voxels are `UNSETTLED`.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.composition import structure_labels, take, warp_positions
from models.label_maps import (
    IntVolume,
    LabelMap,
    Mask,
    ball,
    dilate,
    erode,
    fill_axial,
    largest_part,
    outside_distance,
    pad_axial,
)
from models.tissues import IGNORED, UNSETTLED, Tissue, structure_label
from models.torso_maps import SPACING, ball_2d, refine_tissues
from models.torso_names import torso_row

_ORGANS = (
    "liver", "portal_and_hepatic_vessels", "spleen", "kidney_right", "kidney_left", "gallbladder", "pancreas",
    "duodenum", "small_bowel", "colon", "rectum", "urinary_bladder", "uterus", "prostate", "seminal_vesicles", "sacrum",
    "hip_left", "hip_right", "femur_left", "femur_right", "rectus_femoris_left", "rectus_femoris_right", "thymus",
)  # fmt: skip
"""Painted in this order; what is not known by name is a muscle."""
_SHARED = ("Liver", "Spleen", "Kidney_L", "Kidney_R", "Gallbladder", "Pancreas")
_BORROWED = (
    "Stomach", "A_Aorta", "V_Venacava_I", "Spine", "Iliopsoas_L", "Iliopsoas_R", "ErectorSpinae_L", "ErectorSpinae_R",
    "Gluteal_L", "Gluteal_R",
)  # fmt: skip
_BORROWED_TISSUES = (
    Tissue.MUSCLE, Tissue.DEEP_MUSCLE, Tissue.ARTERY, Tissue.VEIN, Tissue.PORTAL_VEIN, Tissue.STOMACH, Tissue.ADRENAL,
    Tissue.CORTICAL_BONE, Tissue.TRABECULAR_BONE, Tissue.DISC, Tissue.SPINAL_CANAL,
)  # fmt: skip


def read_hubmap_torso(path: Path, filler: LabelMap) -> LabelMap:
    """One HuBMAP torso (NIfTI with its JSON of names beside it), completed from `filler`."""
    source, table = _read(path)
    source = _crop_levels(source, table)
    label, tissue = _paint_organs(source, table)
    core = _core(source, label)
    centres = {name: np.argwhere(label == structure_label("torso", name)).mean(0) for name in _SHARED}
    centres |= _landmarks(label)
    positions = warp_positions(centres, core, SPACING, _with_landmarks(filler), (*_SHARED, "Crest_L", "Crest_R"))
    covered = _borrow(label, tissue, core, filler, positions)
    _draw_chest(label, tissue, core, covered)
    _settle_chest(label, tissue)
    refine_tissues(label, tissue)
    tissue[~core] = Tissue.AIR
    return LabelMap(
        f"hubmap_{'female' if 'female' in path.name else 'male'}_torso", "torso", "CC BY 4.0", SPACING, label, tissue,
        outside_distance(core, SPACING), unsettled=frozenset(("Iliopsoas_L", "Iliopsoas_R", "Gluteal_L", "Gluteal_R")),
    )  # fmt: skip


def _read(path: Path) -> tuple[IntVolume, dict[str, int]]:
    image = nib.load(path)
    axes = nib.aff2axcodes(image.affine)  # type: ignore[attr-defined,no-untyped-call]
    if axes != ("L", "P", "S"):
        raise ValueError(f"{path}: expected voxel axes L, P, S, got {axes}")
    volume = np.asarray(image.dataobj, dtype=np.int16).transpose(2, 1, 0)  # type: ignore[attr-defined]
    document = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    return np.ascontiguousarray(volume), {name: int(label) for label, name in document["labels"].items()}


def _crop_levels(source: IntVolume, table: dict[str, int]) -> IntVolume:
    """From 130 mm below the hip joint to 110 mm above the heart, with the fat margin around."""
    hip = np.argwhere(source == table["hip_left"])[:, 0]
    hearts = [label for name, label in table.items() if name.startswith("heart")]
    heart = np.argwhere(np.isin(source, hearts))[:, 0]
    low = max(0, int(hip.min() - 90 / SPACING))
    high = min(source.shape[0], int(np.percentile(heart, 98) + 100 / SPACING))
    return pad_axial(source[low:high], SPACING)


def _paint_organs(source: IntVolume, table: dict[str, int]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
    label = np.zeros(source.shape, np.int8)
    tissue = np.full(source.shape, Tissue.AIR, np.uint8)
    hearts = [number for name, number in table.items() if name.startswith("heart")]
    # The chambers are ragged shells in the source: close them to one heart.
    heart = fill_axial(ndimage.binary_closing(np.isin(source, hearts), ball(6)))
    label[heart] = structure_label("torso", "Heart")
    tissue[heart] = Tissue.MYOCARDIUM
    for name in _ORGANS:
        if name not in table:
            continue
        kind, structure = torso_row(name) or (Tissue.MUSCLE, None)
        voxels = source == table[name]
        if name in ("sacrum", "urinary_bladder", "rectum"):  # hollow in the source
            voxels = fill_axial(ndimage.binary_closing(voxels, ball(3)))
        tissue[voxels] = kind
        label[voxels] = structure_label("torso", structure) if structure else 0
    trachea = source == table.get("trachea", -1)
    tissue[fill_axial(ndimage.binary_closing(trachea, ball(2)))] = Tissue.BOWEL_GAS
    return label, tissue


def _core(source: IntVolume, label: npt.NDArray[np.int8]) -> Mask:
    """The body without arms and without its outer 22 mm, but with all organs."""
    body = np.stack([largest_part(ndimage.binary_opening(section, iterations=3)) for section in source > 0])
    legs = np.stack([ndimage.binary_opening(section, iterations=3) for section in source > 0])
    femur = np.isin(label, structure_labels("torso", ("Femur_L", "Femur_R")))
    below = int(np.argwhere(label == structure_label("torso", "Bladder"))[:, 0].min())
    body[:below] = legs[:below]
    # Arms hang from the shoulders: cut where the body is wider than a trunk.
    trunk = structure_labels("torso", ("Liver", "Spleen"))
    columns = np.argwhere(np.isin(label, trunk))[:, 2]
    margin = 45 / SPACING
    chest = int(np.argwhere(np.isin(label, trunk))[:, 0].min())
    body[chest:, :, : int(columns.min() - margin)] = False
    body[chest:, :, int(columns.max() + margin) :] = False
    core = np.stack([ndimage.distance_transform_edt(section) * SPACING > 22 for section in body])
    core = np.asarray(ndimage.gaussian_filter(core.astype(np.float32), 3) > 0.5)
    return core | dilate(((label > 0) | femur) & body, 3)


def _landmarks(label: npt.NDArray[np.int8]) -> dict[str, npt.NDArray[np.float64]]:
    """Tops of the iliac crests."""
    marks = {}
    for side in "LR":
        bone = np.argwhere(label == structure_label("torso", f"Pelvis_{side}"))
        marks[f"Crest_{side}"] = bone[bone[:, 0] > bone[:, 0].max() - 5].mean(0)
    return marks


def _with_landmarks(source: LabelMap) -> LabelMap:
    centres = dict(source.centres) | {name: (mark, 1.0) for name, mark in _landmarks(source.label).items()}
    return LabelMap(
        source.name, source.anatomy, source.licence, source.spacing, source.label, source.tissue, source.outside,
        source.unsettled, centres,
    )  # fmt: skip


def _borrow(
    label: npt.NDArray[np.int8],
    tissue: npt.NDArray[np.uint8],
    core: Mask,
    filler: LabelMap,
    positions: npt.NDArray[np.float32],
) -> Mask:
    """Bring the filler's structures into free voxels of the core, in place; returns the levels it covers."""
    other_label, other_tissue, covered = take(filler, positions)
    free = core & (tissue == Tissue.AIR)
    tissue[free] = Tissue.VISCERAL_FAT
    tissue[free & ~erode(core, 12 / SPACING)] = Tissue.MUSCLE
    wanted = np.isin(other_label, structure_labels("torso", _BORROWED))
    own_bone = np.isin(other_label, structure_labels("torso", ("Sacrum", "Pelvis_L", "Pelvis_R")))
    usable = free & covered & np.isin(other_tissue, _BORROWED_TISSUES) & (wanted | (other_label <= 0)) & ~own_bone
    tissue[usable] = other_tissue[usable]
    label[usable] = other_label[usable]
    label[free & ~covered] = UNSETTLED
    # Below the atlas the pelvis and the thighs are mostly muscle.
    bottom = free & ~covered & (np.arange(label.shape[0])[:, None, None] < label.shape[0] // 2)
    pelvic = _between_hips(label)
    tissue[bottom & ~pelvic] = Tissue.MUSCLE
    return covered


def _between_hips(label: npt.NDArray[np.int8]) -> Mask:
    """The pelvic cavity: voxels with hip bone on both sides in their row, or near the pelvic organs."""
    right = np.maximum.accumulate(label == structure_label("torso", "Pelvis_R"), axis=2)
    left = np.maximum.accumulate((label == structure_label("torso", "Pelvis_L"))[..., ::-1], axis=2)[..., ::-1]
    return np.asarray(right & left)


def _draw_chest(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], core: Mask, covered: Mask) -> None:
    """Lungs above the diaphragm; column, aorta, muscles and ribs where the filler has no levels. In place."""
    spine = label == structure_label("torso", "Spine")
    top = int(np.argwhere(spine & covered)[:, 0].max()) - 2
    anchor = np.argwhere(spine[top - 15 : top] & (tissue[top - 15 : top] != Tissue.SPINAL_CANAL))
    middle_i = float(np.argwhere(spine)[:, 2].mean())
    front = float(np.percentile(anchor[:, 1], 2))
    column = [_Column(front, middle_i, *core.shape[1:])] * (core.shape[0] - top)
    back_here = _back(core, top)
    for k, shape in enumerate(column, start=top):
        shape.draw(label[k], tissue[k], core[k], k, _back(core, k) - back_here)
    _draw_lungs(label, tissue, core, middle_i)
    _draw_ribs(tissue, core, top)


def _settle_chest(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8]) -> None:
    """Of what may be missing from the labels, the chest has only vessels of the mediastinum, in place.

    The muscles that `UNSETTLED` voxels may belong to are those of pelvis and thigh.
    """
    upper = (label == UNSETTLED) & (np.arange(label.shape[0])[:, None, None] >= label.shape[0] // 2)
    label[upper] = 0
    label[upper & (tissue == Tissue.MEDIASTINUM)] = IGNORED


def _back(core: Mask, k: int) -> float:
    """Hindmost row of a level."""
    rows = np.flatnonzero(core[k].any(1))
    return float(rows[-1]) if len(rows) else 0.0


class _Column:
    """Cross-section of a thoracic vertebra with the muscles beside it and the aorta before it."""

    def __init__(self, front: float, middle: float, height: int, width: int) -> None:
        self.front, self.middle = front, middle
        self.rows = np.arange(height)[:, None]
        self.across = (np.arange(width)[None, :] - middle) * SPACING

    def draw(
        self,
        label: npt.NDArray[np.int8],
        tissue: npt.NDArray[np.uint8],
        core: npt.NDArray[np.bool_],
        k: int,
        shift: float,
    ) -> None:
        """Draw one level in place; `shift`: rows by which the back lies further behind than at the anchor."""
        y = (self.rows - self.front - shift) * SPACING - 15.0
        x = self.across
        free = core & (label <= 0) & (tissue != Tissue.BOWEL_GAS)
        body = y**2 + x**2 < 16**2
        arch = (
            ((y - 25) ** 2 + x**2 < 14**2)
            | ((np.abs(x) < 4) & (y > 25) & (y < 52))
            | ((np.abs(y - 24) < 5) & (np.abs(x) < 30))
        )
        canal = (y - 25) ** 2 + x**2 < 8**2
        muscle = (((np.abs(x) - 22) / 20) ** 2 + ((y - 44) / 15) ** 2 < 1) & ~arch
        aorta = (x - 22) ** 2 + (y + 12) ** 2 < 11**2
        for mask, kind, number in (
            (muscle, Tissue.DEEP_MUSCLE, IGNORED),
            (aorta, Tissue.ARTERY, structure_label("torso", "A_Aorta")),
            (arch, Tissue.TRABECULAR_BONE, structure_label("torso", "Spine")),
            (
                body,
                Tissue.DISC if (k * SPACING) % 25 < 5 else Tissue.TRABECULAR_BONE,
                structure_label("torso", "Spine"),
            ),
            (canal, Tissue.SPINAL_CANAL, 0),
        ):
            tissue[mask & free] = kind
            label[mask & free] = number


def _draw_lungs(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], core: Mask, middle: float) -> None:
    """Lungs above a dome over the abdominal organs, tapering to the apices, beside the mediastinum. In place."""
    below = np.isin(label, structure_labels("torso", ("Liver", "Spleen", "Stomach", "Kidney_L", "Kidney_R")))
    height = np.where(below.any(0), below.shape[0] - 1 - np.argmax(below[::-1], axis=0), -1).astype(np.float64)
    away, nearest = ndimage.distance_transform_edt(height < 0, return_indices=True)
    dome = np.where(height < 0, height[tuple(nearest)] - 0.8 * away, height)
    dome = ndimage.gaussian_filter(ndimage.grey_closing(dome, footprint=ball_2d(12)), 3)
    heart = label == structure_label("torso", "Heart")
    levels = np.arange(label.shape[0])[:, None, None]
    apex = label.shape[0] - 4
    base = float(np.argwhere(heart)[:, 0].mean())
    taper = np.clip((levels - base) / (apex - base), 0, 1) ** 2 * 60 / SPACING
    across = np.abs(np.arange(label.shape[2]) - middle)[None, None, :] * SPACING
    inner = ndimage.distance_transform_edt(core) > 16 / SPACING + taper
    mediastinum = (across < 24) | dilate(heart, 3)
    diaphragm = np.argwhere(below)[:, 0].max()
    region = inner & (levels > dome[None] + 2) & (levels > diaphragm - 130 / SPACING)
    tissue[region & mediastinum & (label <= 0) & (tissue == Tissue.VISCERAL_FAT)] = Tissue.MEDIASTINUM
    soft = np.isin(tissue, (Tissue.VISCERAL_FAT, Tissue.MUSCLE))
    lung = region & soft & ~mediastinum & (label <= 0)
    tissue[lung] = Tissue.LUNG
    left = np.broadcast_to(np.arange(label.shape[2]) > middle, label.shape)
    label[lung & left] = structure_label("torso", "Lung_L")
    label[lung & ~left] = structure_label("torso", "Lung_R")


def _draw_ribs(tissue: npt.NDArray[np.uint8], core: Mask, top: int) -> None:
    """Slanting rib sections in the chest wall above level `top`. In place."""
    depth = ndimage.distance_transform_edt(core) * SPACING
    levels = np.arange(core.shape[0])[:, None, None] * SPACING
    rows = np.arange(core.shape[1])[None, :, None] * SPACING
    phase = (levels - 0.45 * rows) % 26 < 9
    chest = np.arange(core.shape[0])[:, None, None] > top
    ribs = (depth > 6) & (depth < 14) & phase & chest & (tissue == Tissue.MUSCLE)
    tissue[ribs] = Tissue.CORTICAL_BONE
