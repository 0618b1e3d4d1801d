"""Structures the cards segment and tissues the renderer tells apart.

Structures are what the network learns; tissues are finer (cortex and medulla of a kidney, gas and content of a bowel)
and carry the intensities of a rendered image.
"""

from __future__ import annotations

from enum import IntEnum

TORSO_STRUCTURES = (
    "Liver", "Spleen", "Kidney_L", "Kidney_R", "Gallbladder", "Pancreas", "Stomach", "A_Aorta", "V_Venacava_I",
    "Bladder", "Lung_L", "Lung_R", "Heart", "Spine", "Sacrum", "Pelvis_L", "Pelvis_R", "Femur_L", "Femur_R",
    "Iliopsoas_L", "Iliopsoas_R", "ErectorSpinae_L", "ErectorSpinae_R", "Gluteal_L", "Gluteal_R",
)  # fmt: skip
KNEE_STRUCTURES = (
    "Femur", "Tibia", "Fibula", "Patella", "Cartilage_Femur", "Cartilage_Tibia", "Cartilage_Patella", "Meniscus_Med",
    "Meniscus_Lat", "Lig_ACL", "Lig_PCL", "Lig_Patellar", "Quadriceps", "Hamstrings", "Gastrocnemius",
)  # fmt: skip
STRUCTURES = {"torso": TORSO_STRUCTURES, "knee": KNEE_STRUCTURES}
"""Anatomy -> structures; label ids are 1 + the index."""

IGNORED = -1
"""Label of voxels that teach nothing."""
UNSETTLED = -2
"""Label of voxels that are either background or a structure the source map does not label there."""


def structure_label(anatomy: str, name: str) -> int:
    """Label id of a structure of an anatomy."""
    return STRUCTURES[anatomy].index(name) + 1


class Tissue(IntEnum):
    """What a voxel consists of, as far as its intensity goes."""

    AIR = 0
    SKIN = 1
    SUBCUTANEOUS_FAT = 2
    VISCERAL_FAT = 3
    MUSCLE = 4
    DEEP_MUSCLE = 5
    LIVER = 6
    HEPATIC_VESSEL = 7
    SPLEEN = 8
    PANCREAS = 9
    GALLBLADDER = 10
    KIDNEY_CORTEX = 11
    KIDNEY_MEDULLA = 12
    RENAL_PELVIS = 13
    STOMACH = 14
    STOMACH_GAS = 15
    ARTERY = 16
    VEIN = 17
    COLON = 18
    BOWEL_GAS = 19
    SMALL_BOWEL = 20
    LUNG = 21
    MYOCARDIUM = 22
    HEART_BLOOD = 23
    CORTICAL_BONE = 24
    TRABECULAR_BONE = 25
    DISC = 26
    SPINAL_CANAL = 27
    BLADDER = 28
    PELVIC_ORGAN = 29
    ADRENAL = 30
    MEDIASTINUM = 31
    CARTILAGE = 32
    MENISCUS = 33
    LIGAMENT = 34
    FAT_PAD = 35
    NERVE = 36
    JOINT_FLUID = 37
    LESION = 38
    MESENTERY = 39
    PORTAL_VEIN = 40
    METAL = 41


TISSUE_COUNT = len(Tissue)
