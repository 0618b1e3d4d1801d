"""What the structure names of published torso maps mean: tissue and structure, in TotalSegmentator's manner of naming.

BodyParts3D's and HuBMAP's voxelised torsos and TotalSegmentator's labels share these names.
"""

from __future__ import annotations

from models.tissues import Tissue

Row = tuple[Tissue, str | None]
"""Tissue of a source structure and the torso structure it is taught as, if any."""

SIDES = (("left", "L"), ("right", "R"))
_SINGLE: dict[str, Row] = {
    "liver": (Tissue.LIVER, "Liver"),
    "portal_and_hepatic_vessels": (Tissue.HEPATIC_VESSEL, "Liver"),
    "spleen": (Tissue.SPLEEN, "Spleen"),
    "gallbladder": (Tissue.GALLBLADDER, "Gallbladder"),
    "pancreas": (Tissue.PANCREAS, "Pancreas"),
    "stomach": (Tissue.STOMACH, "Stomach"),
    "aorta": (Tissue.ARTERY, "A_Aorta"),
    "inferior_vena_cava": (Tissue.VEIN, "V_Venacava_I"),
    "superior_vena_cava": (Tissue.VEIN, None),
    "portal_and_splenic_vein": (Tissue.PORTAL_VEIN, None),
    "portal_vein_and_splenic_vein": (Tissue.PORTAL_VEIN, None),
    "urinary_bladder": (Tissue.BLADDER, "Bladder"),
    "sacrum": (Tissue.TRABECULAR_BONE, "Sacrum"),
    "intervertebral_disks": (Tissue.DISC, "Spine"),
    "esophagus": (Tissue.SMALL_BOWEL, None),
    "duodenum": (Tissue.SMALL_BOWEL, None),
    "small_bowel": (Tissue.SMALL_BOWEL, None),
    "colon": (Tissue.COLON, None),
    "rectum": (Tissue.COLON, None),
    "trachea": (Tissue.BOWEL_GAS, None),
    "uterus": (Tissue.PELVIC_ORGAN, None),
    "prostate": (Tissue.PELVIC_ORGAN, None),
    "seminal_vesicles": (Tissue.PELVIC_ORGAN, None),
    "thymus": (Tissue.MEDIASTINUM, None),
    "sternum": (Tissue.TRABECULAR_BONE, None),
    "costal_cartilages": (Tissue.CARTILAGE, None),
    "diaphragm": (Tissue.MUSCLE, None),
}
_STARTS: dict[str, Row] = {
    "vertebrae": (Tissue.TRABECULAR_BONE, "Spine"),
    "heart": (Tissue.MYOCARDIUM, "Heart"),
}
_SIDED: dict[str, Row] = {
    "kidney": (Tissue.KIDNEY_CORTEX, "Kidney"),
    "lung": (Tissue.LUNG, "Lung"),
    "hip": (Tissue.TRABECULAR_BONE, "Pelvis"),
    "femur": (Tissue.TRABECULAR_BONE, "Femur"),
    "iliopsoas": (Tissue.DEEP_MUSCLE, "Iliopsoas"),
    "autochthon": (Tissue.DEEP_MUSCLE, "ErectorSpinae"),
    "gluteus": (Tissue.DEEP_MUSCLE, "Gluteal"),
    "adrenal": (Tissue.ADRENAL, None),
    "iliac_artery": (Tissue.ARTERY, None),
    "iliac_vena": (Tissue.VEIN, None),
    "rib": (Tissue.TRABECULAR_BONE, None),
    "scapula": (Tissue.TRABECULAR_BONE, None),
    "clavicula": (Tissue.TRABECULAR_BONE, None),
    "humerus": (Tissue.TRABECULAR_BONE, None),
}


def torso_row(name: str) -> Row | None:
    """Tissue and structure of a source structure; None where the name is not known."""
    if name in _SINGLE:
        return _SINGLE[name]
    for prefix, row in _STARTS.items():
        if name.startswith(prefix):
            return row
    for prefix, (kind, structure) in _SIDED.items():
        if name.startswith(prefix):
            side = next((letter for word, letter in SIDES if word in name), "")
            return kind, f"{structure}_{side}" if structure else None
    return None
