"""From a spec to voxels, labels and DICOM objects."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from dicom_node.imaging.geometry import Geometry
from tests.phantoms import knee, shapes, tissues, torso
from tests.phantoms.objects import enhanced_object, single_frame_objects
from tests.phantoms.solids import Grid, Part, paint
from tests.phantoms.spec import CENTRE_MM, Phantom, PhantomSpec, geometry_of

STORED_RANGE = {"CT": (-1024, 3071), "MR": (0, 4095)}
NOISE = {"CT": 11.0, "MR": 9.0}


def build(spec: PhantomSpec) -> Phantom:
    """The series of a spec with its truth.

    Raises:
        ValueError: The anatomy or modality is unknown.
    """
    if spec.modality not in STORED_RANGE:
        raise ValueError(f"modality is CT or MR, not {spec.modality!r}")
    geometry = geometry_of(spec)
    labels, voxels, names = _sample(spec, geometry)
    make = enhanced_object if spec.multiframe else single_frame_objects
    return Phantom(
        spec=spec,
        datasets=make(spec, geometry, voxels),
        labels=labels,
        voxels=voxels,
        geometry=geometry,
        names=names,
    )


def write(spec: PhantomSpec, folder: Path) -> list[Path]:
    """Build a spec and write its objects as files; their names say nothing about their order.

    Args:
        spec: What to build.
        folder: Where; made if absent.

    Returns:
        The files, in the order of the phantom's geometry.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    datasets = build(spec).datasets
    numbers = list(range(len(datasets)))
    random.Random(spec.seed).shuffle(numbers)
    paths = [folder / f"{spec.modality}{number:04d}.dcm" for number in numbers]
    for dataset, path in zip(datasets, paths, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


def _sample(
    spec: PhantomSpec, geometry: Geometry
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16], dict[int, str]]:
    """Labels and values slice by slice, so that large series fit into memory."""
    if spec.anatomy == "shapes":
        return _sample_shapes(spec, geometry)
    anatomies: dict[str, tuple[Callable[[], list[Part]], dict[int, str]]] = {
        "torso": (torso.torso_parts, torso.NAMES),
        "knee": (knee.knee_parts, knee.NAMES),
    }
    if spec.anatomy not in anatomies:
        raise ValueError(f"anatomy is shapes, {' or '.join(anatomies)}, not {spec.anatomy!r}")
    make_parts, names = anatomies[spec.anatomy]
    parts = make_parts()
    labels = np.empty(geometry.shape, dtype=np.uint8)
    voxels = np.empty(geometry.shape, dtype=np.int16)
    for k in range(geometry.shape[0]):
        x, y, z = _slice_points(geometry, k)
        labels[k], tissue = paint(parts, x, y, z)
        voxels[k] = _textured(spec, tissue, (x, y, z), k)
    return labels, voxels, names


def _sample_shapes(
    spec: PhantomSpec, geometry: Geometry
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16], dict[int, str]]:
    scale = shapes.shapes_scale(geometry)
    parts = shapes.shapes_parts(scale)
    labels = np.empty(geometry.shape, dtype=np.uint8)
    for k in range(geometry.shape[0]):
        labels[k], _ = paint(parts, *_slice_points(geometry, k))
    shapes.paint_grid_shapes(labels, geometry, scale)
    table = shapes.HOUNSFIELD if spec.modality == "CT" else shapes.MR_UNITS
    voxels = np.empty(geometry.shape, dtype=np.int16)
    for k in range(geometry.shape[0]):
        x, y, z = _slice_points(geometry, k)
        ramp = 0.4 * x + 0.25 * y - 0.15 * z
        noise = np.random.default_rng([spec.seed, k]).normal(0, NOISE[spec.modality], x.shape)
        voxels[k] = _stored(spec, table[labels[k]] + ramp + noise)
    return labels, voxels, dict(shapes.NAMES)


def _slice_points(geometry: Geometry, k: int) -> tuple[Grid, Grid, Grid]:
    """(rows, columns) x, y and z in mm relative to the phantom's middle."""
    j = np.arange(geometry.rows)[:, None, None] * geometry.row_spacing * geometry.column_direction
    i = np.arange(geometry.columns)[None, :, None] * geometry.column_spacing * geometry.row_direction
    points = (geometry.origins[k] - CENTRE_MM + j + i).astype(np.float32)
    return points[..., 0], points[..., 1], points[..., 2]


def _textured(
    spec: PhantomSpec, tissue: npt.NDArray[np.uint8], points: tuple[Grid, Grid, Grid], k: int
) -> npt.NDArray[np.int16]:
    """Values of a slice: blurred tissue values with texture, noise and, for MR, a receive-coil shading."""
    x, y, z = points
    generator = np.random.default_rng([spec.seed, k])
    table = tissues.HOUNSFIELD if spec.modality == "CT" else tissues.MR_UNITS
    grain = gaussian_filter(generator.normal(0, 1, tissue.shape).astype(np.float32), 1.2) * 4.2
    values = gaussian_filter(table[tissue], 0.55) + tissues.TEXTURE[tissue] * grain
    noise = generator.normal(0, NOISE[spec.modality], tissue.shape)
    if spec.modality == "MR":
        values = values * (1.0 + 0.18 * np.sin(x / 190 + 0.6) + 0.12 * np.cos(y / 150 + z / 260))
        other = generator.normal(0, NOISE["MR"], tissue.shape)
        return _stored(spec, np.hypot(values + noise, other))
    return _stored(spec, values + noise)


def _stored(spec: PhantomSpec, values: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    return np.clip(np.rint(values), *STORED_RANGE[spec.modality]).astype(np.int16)
