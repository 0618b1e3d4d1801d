"""The torso's label maps: SPL abdominal atlas and the HuBMAP reference torsos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.label_maps import (
    SPL_ABDOMINAL_SPACING,
    LabelMap,
    Mask,
    axial_hull,
    dilate,
    erode,
    fill_axial,
    largest_part,
    outside_distance,
    pad_axial,
    paint,
    read_colour_table,
    read_nrrd,
    resample_nearest,
    shell_bone,
)
from models.tissues import IGNORED, UNSETTLED, Tissue, structure_label

SPACING = 2.0
"""Edge of the torso maps' voxels in mm."""

_SIDES = (("right", "R"), ("left", "L"))


def _spl_rows() -> dict[str, tuple[Tissue, str | None]]:
    rows: dict[str, tuple[Tissue, str | None]] = {
        "liver": (Tissue.LIVER, "Liver"),
        "right_hepatic_vein": (Tissue.HEPATIC_VESSEL, "Liver"),
        "middle_hepatic_vein": (Tissue.HEPATIC_VESSEL, "Liver"),
        "left_hepatic_vein": (Tissue.HEPATIC_VESSEL, "Liver"),
        "spleen": (Tissue.SPLEEN, "Spleen"),
        "pancreas": (Tissue.PANCREAS, "Pancreas"),
        "gallbladder": (Tissue.GALLBLADDER, "Gallbladder"),
        "stomach_and_duodenum": (Tissue.STOMACH, "Stomach"),
        "aorta": (Tissue.ARTERY, "A_Aorta"),
        "inferior_vena_cava": (Tissue.VEIN, "V_Venacava_I"),
        "portal_vein_and_superior_mesenteric_vein": (Tissue.PORTAL_VEIN, None),
        "splenic_vein": (Tissue.PORTAL_VEIN, None),
        "inferior_mesenteric_vein": (Tissue.PORTAL_VEIN, None),
        "colon_and_ileum": (Tissue.COLON, None),
        "Sacrum": (Tissue.TRABECULAR_BONE, "Sacrum"),
        "Pelvis": (Tissue.TRABECULAR_BONE, "Pelvis_R"),
        "rectus_abdominis_muscle": (Tissue.MUSCLE, None),
    }
    arteries = (
        "celiac_trunk", "splenic_artery", "left_gastric_artery", "common_hepatic_artery", "hepatic_artery_proper",
        "gastroduodenal_artery", "superior_mesenteric_artery", "inferior_mesenteric_artery", "left_hepatic_artery",
        "right_hepatic_artery", "left_renal_artery", "right_renal_artery",
    )  # fmt: skip
    rows |= dict.fromkeys(arteries, (Tissue.ARTERY, None))
    for side, letter in _SIDES:
        rows[f"{side}_kidney"] = (Tissue.KIDNEY_CORTEX, f"Kidney_{letter}")
        rows[f"{side}_renal_pelvis"] = (Tissue.RENAL_PELVIS, None)
        rows[f"{side}_ureter"] = (Tissue.RENAL_PELVIS, None)
        rows[f"{side}_adrenal_gland"] = (Tissue.ADRENAL, None)
        rows[f"{side}_renal_vein"] = (Tissue.VEIN, None)
        for which in ("common", "external", "internal"):
            rows[f"{side}_{which}_iliac_artery"] = (Tissue.ARTERY, None)
            rows[f"{side}_{which}_iliac_vein"] = (Tissue.VEIN, None)
        rows[f"{side}_inferior_epigastric_artery"] = (Tissue.ARTERY, None)
        for which in ("psoas", "iliacus"):
            rows[f"{side}_{which}_muscle"] = (Tissue.DEEP_MUSCLE, f"Iliopsoas_{letter}")
        rows[f"{side}_erector_spinae_muscle"] = (Tissue.DEEP_MUSCLE, f"ErectorSpinae_{letter}")
        for which in ("minimus", "medius", "maximus"):
            rows[f"{side}_gluteus_{which}_muscle"] = (Tissue.DEEP_MUSCLE, f"Gluteal_{letter}")
        for which in ("quadratus_lumborum", "external_oblique", "internal_oblique"):
            rows[f"{side}_{which}_muscle"] = (Tissue.MUSCLE, None)
    rows |= {f"Thoracic{n}": (Tissue.TRABECULAR_BONE, "Spine") for n in range(9, 13)}
    rows |= {f"Lumbar{n}": (Tissue.TRABECULAR_BONE, "Spine") for n in range(1, 6)}
    rows |= {f"Rib{n}": (Tissue.TRABECULAR_BONE, None) for n in range(6, 13)}
    discs = ("Sacrum-L5", "L5-L4", "L4-L3", "L3-L2", "L2-L1", "L1-T12", "T12-T11", "T11-T10", "T10-T9")
    return rows | {f"{name}-IntervertebralDisc": (Tissue.DISC, None) for name in discs}


def read_spl_abdominal(folder: Path) -> LabelMap:
    """The SPL abdominal atlas with its spacing put right, lungs and spinal canal derived, pelvis divided by side."""
    stored = read_nrrd(folder / "seg.nrrd")
    source = np.ascontiguousarray(stored.transpose(2, 1, 0)[::-1, ::-1])  # stored y and z run against LPS
    source = pad_axial(resample_nearest(source, SPL_ABDOMINAL_SPACING, SPACING), SPACING)
    table = read_colour_table(folder / "AbdominalAtlasColors.ctbl")
    label, tissue = paint(source, table, _spl_rows(), "torso")
    middle = float(np.argwhere(source == table["Sacrum"])[:, 2].mean())
    left = np.broadcast_to(np.arange(source.shape[2]) > middle, source.shape)
    pelvis = source == table["Pelvis"]
    label[pelvis & left] = structure_label("torso", "Pelvis_L")
    core = axial_hull(source > 0, 2.0) | (source > 0)
    _split_duodenum(label, tissue)
    _open_parts(label, tissue, core)
    refine_tissues(label, tissue)
    lung = _lungs(label, tissue, core)
    label[lung & left] = structure_label("torso", "Lung_L")
    label[lung & ~left] = structure_label("torso", "Lung_R")
    tissue[lung] = Tissue.LUNG
    _draw_heart(label, tissue, lung, middle)
    tissue[~core] = Tissue.AIR
    # The bladder begins in the lowest levels, where the atlas calls nothing bladder.
    low = np.arange(label.shape[0])[:, None, None] < 40 / SPACING
    label[low & (label == 0) & (tissue == Tissue.VISCERAL_FAT)] = UNSETTLED
    return LabelMap(
        "spl_abdominal", "torso", "3D Slicer licence", SPACING, label, tissue, outside_distance(core, SPACING),
        unsettled=frozenset(("Bladder",)),
    )  # fmt: skip


def _split_duodenum(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8]) -> None:
    """Keep the wide part of the atlas's "stomach and duodenum" as stomach; the narrow rest is bowel. In place."""
    both = label == structure_label("torso", "Stomach")
    stomach = both & dilate(largest_part(erode(both, 10 / SPACING)), 17 / SPACING)
    middle = np.median(np.argwhere(stomach)[:, 0])
    low = np.arange(label.shape[0])[:, None, None] < middle
    rest = both & ~stomach & low
    tissue[rest] = Tissue.SMALL_BOWEL
    label[rest] = 0


def _draw_heart(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], lung: Mask, middle: float) -> None:
    """A heart on the diaphragm, which the atlas does not label; its voxels teach nothing. In place."""
    liver = np.argwhere(label == structure_label("torso", "Liver"))
    centre = np.array([label.shape[0] + 6.0, np.percentile(liver[:, 1], 35), middle + 18.0])
    k, j, i = np.ogrid[: label.shape[0], : label.shape[1], : label.shape[2]]
    square = ((k - centre[0]) / 24) ** 2 + ((j - centre[1]) / 22) ** 2 + ((i - centre[2]) / 32) ** 2
    heart = (square < 1) & lung
    tissue[heart] = Tissue.MYOCARDIUM
    tissue[heart & (square < 0.6)] = Tissue.HEART_BLOOD
    tissue[(square >= 1) & (square < 1.25) & lung] = Tissue.MEDIASTINUM
    label[(square < 1.25) & lung] = IGNORED


def _open_parts(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], core: Mask) -> None:
    """Tissue of what the atlas leaves empty inside the core, and what it leaves unlabelled."""
    empty = core & (tissue == Tissue.AIR)
    tissue[empty] = Tissue.VISCERAL_FAT
    tissue[empty & ~erode(core, 10 / SPACING)] = Tissue.MUSCLE
    spine = label == structure_label("torso", "Spine")
    spine |= tissue == Tissue.DISC
    canal = fill_axial(ndimage.binary_closing(spine, iterations=2)) & empty
    tissue[canal] = Tissue.SPINAL_CANAL
    # Discs are part of the column as the card means it; the atlas keeps them apart.
    label[tissue == Tissue.DISC] = structure_label("torso", "Spine")
    label[canal] = 0


def refine_tissues(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8]) -> None:
    """Divide organs into parts that differ in intensity, in place: kidney, bone, heart."""
    for side in "LR":
        kidney = label == structure_label("torso", f"Kidney_{side}")
        tissue[erode(kidney, 6 / SPACING) & kidney] = Tissue.KIDNEY_MEDULLA
    bones = tissue == Tissue.TRABECULAR_BONE
    shell_bone(tissue, bones, 2.1 / SPACING)
    heart = label == structure_label("torso", "Heart")
    tissue[erode(heart, 10 / SPACING) & heart] = Tissue.HEART_BLOOD


def _lungs(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], core: Mask) -> Mask:
    """Lung, which the atlas does not label: what is above a dome over the abdominal organs and inside the ribs."""
    names = ("Liver", "Spleen", "Stomach", "Kidney_L", "Kidney_R")
    below = np.isin(label, [structure_label("torso", name) for name in names]) | np.isin(
        tissue, (Tissue.COLON, Tissue.SMALL_BOWEL)
    )
    height = np.where(below.any(0), below.shape[0] - 1 - np.argmax(below[::-1], axis=0), -1).astype(np.float64)
    nearest = ndimage.distance_transform_edt(height < 0, return_distances=False, return_indices=True)
    away = ndimage.distance_transform_edt(height < 0)
    dome = np.where(height < 0, height[tuple(nearest)] - 0.8 * away, height)
    dome = ndimage.gaussian_filter(ndimage.grey_closing(dome, footprint=ball_2d(12)), 3)
    levels = np.arange(label.shape[0])[:, None, None]
    free = (tissue == Tissue.VISCERAL_FAT) & (levels > dome[None] + 1.5)
    free &= erode(core, 14 / SPACING) & ~dilate(label == structure_label("torso", "Spine"), 3)
    top = np.argwhere(label == structure_label("torso", "Liver"))[:, 0].max()
    return np.asarray(free & (levels > top - 60))


def ball_2d(radius: int) -> Mask:
    """Solid disc of `radius` pixels."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(y * y + x * x <= radius * radius)
