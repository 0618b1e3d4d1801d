"""Where each voxel is in the patient: pure functions and one frozen value, in LPS millimetres.

Patient coordinates are DICOM's (PS3.3 C.7.6.2.1.1): x towards the patient's left, y towards posterior, z towards the
head, in mm. Voxel indices are (k, j, i): slice, row, column. Row index j grows along ``column_direction`` (the second
triplet of ImageOrientationPatient), column index i along ``row_direction`` (the first triplet).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

PLANE_TOLERANCE_MM = 0.01
"""How far a contour point or a slice origin may lie off its plane and still count as on it."""
SPACING_TOLERANCE_MM = 0.05
"""How far slice spacings may differ and still count as one spacing (scanners round positions to 0.01 mm or less)."""
ANGLE_TOLERANCE = 1e-3
"""How far a direction cosine may differ and still count as the same orientation (about 0.06 degrees)."""


@dataclass(frozen=True)
class Geometry:
    """The planes of one volume, each at its own place.

    Slices are ordered along ``normal``. Nothing is assumed about their distances: uneven spacing and a gantry tilt
    (origins that shift within the plane from slice to slice) are held as they are.

    Attributes:
        origins: (n, 3) patient_mm of the centre of the first voxel (j = i = 0) of each slice.
        row_direction: (3,) unit vector along which the column index i grows.
        column_direction: (3,) unit vector along which the row index j grows.
        row_spacing: mm between the centres of adjacent rows (first value of PixelSpacing).
        column_spacing: mm between the centres of adjacent columns (second value of PixelSpacing).
        rows: Number of rows (j).
        columns: Number of columns (i).
        slice_thickness: mm, nominal; used as the extent of a volume of one slice only.
    """

    origins: FloatArray
    row_direction: FloatArray
    column_direction: FloatArray
    row_spacing: float
    column_spacing: float
    rows: int
    columns: int
    slice_thickness: float = 1.0

    def __post_init__(self) -> None:
        for array in (self.origins, self.row_direction, self.column_direction):
            array.setflags(write=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return len(self.origins), self.rows, self.columns

    @cached_property
    def normal(self) -> FloatArray:
        """(3,) unit normal of the planes: row_direction x column_direction (PS3.3 C.7.6.2.1.1)."""
        return np.asarray(np.cross(self.row_direction, self.column_direction))

    @cached_property
    def distances(self) -> FloatArray:
        """(n,) mm of each plane along ``normal``; ascending."""
        return np.asarray(self.origins @ self.normal)

    @cached_property
    def slice_spacings(self) -> FloatArray:
        """(n - 1,) mm between adjacent planes, along ``normal``."""
        return np.asarray(np.diff(self.distances))

    @property
    def slice_spacing(self) -> float:
        """Median distance between planes in mm; the nominal thickness where there is one plane only."""
        return float(np.median(self.slice_spacings)) if len(self.origins) > 1 else float(self.slice_thickness)

    @property
    def is_evenly_spaced(self) -> bool:
        """Whether all planes are the same distance apart, within SPACING_TOLERANCE_MM."""
        return bool(np.all(np.abs(self.slice_spacings - self.slice_spacing) <= SPACING_TOLERANCE_MM))

    @cached_property
    def in_plane_shifts(self) -> FloatArray:
        """(n, 3) mm by which each origin is displaced within the plane from the first one's normal line."""
        offsets = self.origins - self.origins[0]
        return np.asarray(offsets - np.outer(offsets @ self.normal, self.normal))

    @property
    def is_tilted(self) -> bool:
        """Whether the stack is sheared (gantry tilt): origins do not lie on one normal line."""
        if len(self.origins) < 2:
            return False
        shift = np.linalg.norm(self.in_plane_shifts[-1])
        return bool(shift > max(SPACING_TOLERANCE_MM, 1e-3 * (self.distances[-1] - self.distances[0])))

    @property
    def tilt_degrees(self) -> float:
        """Angle between the stack's axis and the plane normal, in degrees."""
        if len(self.origins) < 2:
            return 0.0
        axis = self.origins[-1] - self.origins[0]
        return float(np.degrees(np.arctan2(np.linalg.norm(self.in_plane_shifts[-1]), abs(axis @ self.normal))))

    @property
    def is_regular(self) -> bool:
        """Whether one rectangular affine describes every slice: even spacing and no tilt."""
        return self.is_evenly_spaced and not self.is_tilted

    @cached_property
    def affine(self) -> FloatArray:
        """(4, 4) from homogeneous (k, j, i, 1) to patient_mm; exact for evenly spaced stacks, tilted ones included.

        For uneven spacing it is the least that a file format can hold (first and last slice exact); use
        :meth:`index_to_patient` for the truth.
        """
        step = (
            (self.origins[-1] - self.origins[0]) / (len(self.origins) - 1)
            if len(self.origins) > 1
            else self.normal * self.slice_thickness
        )
        matrix = np.eye(4)
        matrix[:3, 0] = step
        matrix[:3, 1] = self.column_direction * self.row_spacing
        matrix[:3, 2] = self.row_direction * self.column_spacing
        matrix[:3, 3] = self.origins[0]
        return matrix

    def index_to_patient(self, kji: FloatArray) -> FloatArray:
        """Patient coordinates of voxel indices.

        Args:
            kji: (N, 3) indices, fractions allowed; between slices positions are interpolated from both origins,
                beyond the ends extrapolated.

        Returns:
            (N, 3) patient_mm.
        """
        kji = np.asarray(kji, dtype=np.float64)
        in_plane = np.outer(kji[:, 1] * self.row_spacing, self.column_direction) + np.outer(
            kji[:, 2] * self.column_spacing, self.row_direction
        )
        return np.asarray(self._origin_at(kji[:, 0]) + in_plane)

    def patient_to_index(self, patient_mm: FloatArray) -> FloatArray:
        """Voxel indices of patient coordinates: the inverse of :meth:`index_to_patient`.

        Args:
            patient_mm: (N, 3) points.

        Returns:
            (N, 3) fractional (k, j, i).
        """
        patient_mm = np.asarray(patient_mm, dtype=np.float64)
        k = self._slice_at(patient_mm @ self.normal)
        offset = patient_mm - self._origin_at(k)
        j = offset @ self.column_direction / self.row_spacing
        i = offset @ self.row_direction / self.column_spacing
        return np.stack([k, j, i], axis=1)

    def voxel_volumes(self) -> FloatArray:
        """(n,) mm3 of a voxel of each slice: half the distance to either neighbour times the pixel area."""
        area = self.row_spacing * self.column_spacing
        if len(self.origins) == 1:
            return np.array([area * self.slice_thickness])
        gaps = self.slice_spacings
        extents = np.concatenate([[gaps[0]], (gaps[:-1] + gaps[1:]) / 2, [gaps[-1]]])
        return np.asarray(extents * area)

    def same_grid(self, other: Geometry, tolerance_mm: float = PLANE_TOLERANCE_MM) -> bool:
        """Whether both describe the same voxels, corner by corner, within a tolerance in mm."""
        if self.shape != other.shape:
            return False
        corners = np.array([[0, 0, 0], [0, self.rows - 1, 0], [0, 0, self.columns - 1]], dtype=np.float64)
        ours, theirs = self.index_to_patient(corners), other.index_to_patient(corners)
        return bool(
            np.allclose(ours, theirs, atol=tolerance_mm) and np.allclose(self.origins, other.origins, atol=tolerance_mm)
        )

    def _origin_at(self, k: FloatArray) -> FloatArray:
        if len(self.origins) == 1:
            return np.asarray(self.origins[0] + np.outer(k * self.slice_thickness, self.normal))
        lower = np.clip(np.floor(k).astype(np.intp), 0, len(self.origins) - 2)
        fraction = (k - lower)[:, None]
        return np.asarray(self.origins[lower] * (1 - fraction) + self.origins[lower + 1] * fraction)

    def _slice_at(self, distance: FloatArray) -> FloatArray:
        if len(self.origins) == 1:
            return np.asarray((distance - self.distances[0]) / self.slice_thickness)
        lower = np.clip(np.searchsorted(self.distances, distance, side="right") - 1, 0, len(self.origins) - 2)
        gap = self.distances[lower + 1] - self.distances[lower]
        return np.asarray(lower + (distance - self.distances[lower]) / gap)
