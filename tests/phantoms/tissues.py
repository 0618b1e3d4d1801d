"""What tissues look like: Hounsfield units in the portal-venous phase, and units of a T1-weighted MR."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Tissue(IntEnum):
    AIR = 0
    FAT = 1
    MUSCLE = 2
    LUNG = 3
    MARROW = 4
    CORTEX = 5
    DISC = 6
    CANAL = 7
    BLOOD = 8
    HEART = 9
    LIVER = 10
    SPLEEN = 11
    KIDNEY = 12
    PANCREAS = 13
    BILE = 14
    STOMACH = 15
    GAS = 16
    BOWEL = 17
    URINE = 18
    CARTILAGE = 19
    FIBROUS = 20
    SKIN = 21


_CT_AND_MR = {
    Tissue.AIR: (-1000, 8),
    Tissue.FAT: (-100, 880),
    Tissue.MUSCLE: (58, 330),
    Tissue.LUNG: (-840, 45),
    Tissue.MARROW: (210, 640),
    Tissue.CORTEX: (620, 60),
    Tissue.DISC: (90, 260),
    Tissue.CANAL: (18, 190),
    Tissue.BLOOD: (160, 120),
    Tissue.HEART: (130, 260),
    Tissue.LIVER: (112, 480),
    Tissue.SPLEEN: (124, 340),
    Tissue.KIDNEY: (185, 370),
    Tissue.PANCREAS: (95, 510),
    Tissue.BILE: (8, 170),
    Tissue.STOMACH: (28, 230),
    Tissue.GAS: (-930, 12),
    Tissue.BOWEL: (45, 300),
    Tissue.URINE: (6, 140),
    Tissue.CARTILAGE: (110, 560),
    Tissue.FIBROUS: (90, 70),
    Tissue.SKIN: (20, 420),
}
_TEXTURED = {Tissue.LUNG: 30.0, Tissue.BOWEL: 28.0, Tissue.MARROW: 45.0, Tissue.MUSCLE: 8.0, Tissue.LIVER: 6.0}

HOUNSFIELD = np.array([_CT_AND_MR[tissue][0] for tissue in Tissue], dtype=np.float32)
MR_UNITS = np.array([_CT_AND_MR[tissue][1] for tissue in Tissue], dtype=np.float32)
TEXTURE = np.array([_TEXTURED.get(tissue, 4.0) for tissue in Tissue], dtype=np.float32)
