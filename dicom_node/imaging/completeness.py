"""The proof that planes are one whole volume: one grid, one orientation, no place twice, none left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from dicom_node.errors import SeriesRefused
from dicom_node.imaging.geometry import ANGLE_TOLERANCE, SPACING_TOLERANCE_MM, FloatArray, Geometry
from dicom_node.imaging.planes import TRAITS, Plane, names_of
from dicom_node.imaging.spacing import find_gaps

MAX_TILT_DEGREES = 45.0
"""Gantries tilt by 30 degrees at most; a stack sheared beyond 45 degrees is not one."""
PIXEL_SPACING_TOLERANCE = 1e-3
"""Relative difference of PixelSpacing within a series that rounding explains."""
NUMBER_TOLERANCE = 0.01
"""Relative difference of a number within a series that is no other contrast."""
AXIS_NAMES = ("sagittal", "coronal", "transverse")

UNIFORM_TRAITS = ("EchoTime", "EchoNumbers", "DiffusionBValue", "TemporalPositionIdentifier", "ComplexImageComponent")
"""What must be the same on every slice, even where no place comes twice."""
CONTRAST_TERMS = {
    *("M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "PHASE MAP"),
    *("W", "F", "IP", "OP", "WATER", "FAT", "IN_PHASE", "OUT_PHASE", "OPP_PHASE"),
    *("ADC", "TRACEW", "FA", "DIFFUSION", "T1", "T2", "T2_STAR"),
}
"""Values of ImageType that name a contrast."""


def prove_planes(planes: Sequence[Plane]) -> tuple[list[Plane], Geometry]:
    """Order planes into the volume they are.

    Args:
        planes: The slices of one series, in any order; at least one.

    Returns:
        The planes ordered along their normal, and the volume's geometry.

    Raises:
        SeriesRefused: They are not one whole volume; kind ``mixed-orientation``, ``mixed-grids``, ``several-stacks``,
            ``repeated-position``, ``mixed-contrasts``, ``shifted-slices`` or ``gap``. Names the slices.
    """
    _require_one_orientation(planes)
    _require_one_grid(planes)
    normal = planes[0].normal
    ordered = sorted(planes, key=lambda plane: float(plane.position @ normal))
    _require_distinct_positions(ordered, normal)
    _require_one_contrast(ordered)
    geometry = _geometry(ordered)
    _require_one_axis(ordered, geometry)
    _require_no_gap(ordered, geometry)
    return ordered, geometry


def orientation_name(plane: Plane) -> str:
    """``transverse``, ``sagittal``, ``coronal``, or ``oblique`` where no axis is within 25 degrees of the normal."""
    normal = np.abs(plane.normal)
    axis = int(np.argmax(normal))
    return AXIS_NAMES[axis] if normal[axis] > np.cos(np.radians(25)) else "oblique"


def _geometry(ordered: Sequence[Plane]) -> Geometry:
    first = ordered[0]
    thicknesses = [plane.slice_thickness for plane in ordered if plane.slice_thickness]
    if not thicknesses and len(ordered) == 1:
        raise SeriesRefused(
            f"The only slice ({first.name}) has no SliceThickness, so its volume is unknown.", kind="no-geometry"
        )
    return Geometry(
        origins=np.array([plane.position for plane in ordered]),
        row_direction=first.row_direction.copy(),
        column_direction=first.column_direction.copy(),
        row_spacing=first.pixel_spacing[0],
        column_spacing=first.pixel_spacing[1],
        rows=first.rows,
        columns=first.columns,
        slice_thickness=float(np.median(thicknesses)) if thicknesses else 1.0,
    )


def _require_one_orientation(planes: Sequence[Plane]) -> None:
    groups: list[list[Plane]] = []
    for plane in planes:
        for group in groups:
            if _same_orientation(plane, group[0]):
                group.append(plane)
                break
        else:
            groups.append([plane])
    if len(groups) == 1:
        return
    shown = [f"{names_of(group)} {orientation_name(group[0])}" for group in groups[:4]]
    steepest = min(float(abs(groups[0][0].normal @ group[0].normal)) for group in groups[1:])
    hint = " They cross each other, as in a localizer." if steepest < 0.5 else ""
    more = f" and {len(groups) - 4} more" if len(groups) > 4 else ""
    raise SeriesRefused(
        f"The slices have {len(groups)} orientations: {'; '.join(shown)}{more}.{hint} "
        "Only parallel slices make a volume; send each stack as a series of its own.",
        kind="mixed-orientation",
    )


def _same_orientation(first: Plane, second: Plane) -> bool:
    return bool(
        np.allclose(first.row_direction, second.row_direction, atol=ANGLE_TOLERANCE)
        and np.allclose(first.column_direction, second.column_direction, atol=ANGLE_TOLERANCE)
    )


def _require_one_grid(planes: Sequence[Plane]) -> None:
    """Rows, columns, pixel spacing and stack are the same on every slice."""
    first = planes[0]
    for plane in planes[1:]:
        if (plane.rows, plane.columns) != (first.rows, first.columns):
            what = f"{first.rows} x {first.columns} and {plane.rows} x {plane.columns} pixels"
        elif not np.allclose(plane.pixel_spacing, first.pixel_spacing, rtol=PIXEL_SPACING_TOLERANCE):
            what = f"pixels of {_size(first)} and {_size(plane)} mm"
        else:
            continue
        raise SeriesRefused(
            f"The slices do not have one grid: {first.name} and {plane.name} have {what}.", kind="mixed-grids"
        )
    stacks = _grouped(planes, [plane.traits.get("StackID", "") for plane in planes])
    if len(stacks) > 1:
        raise SeriesRefused(
            f"The series holds {len(stacks)} stacks: "
            + "; ".join(f"stack {name or '?'}: {names_of(members, 3)}" for name, members in stacks.items())
            + ". Send each stack as a series of its own.",
            kind="several-stacks",
        )


def _require_distinct_positions(ordered: Sequence[Plane], normal: FloatArray) -> None:
    """No two planes in one place; the message says what tells the images of one place apart."""
    places: list[list[Plane]] = []
    for plane in ordered:
        if places and float((plane.position - places[-1][0].position) @ normal) <= SPACING_TOLERANCE_MM:
            places[-1].append(plane)
        else:
            places.append([plane])
    repeated = [place for place in places if len(place) > 1]
    if not repeated:
        return
    if len(places) == 1:
        what = f"All {len(ordered)} images ({names_of(ordered)}) lie at one and the same position"
        guess = ", as in a monitoring scan (bolus tracking) or a dynamic series of one slice"
    else:
        where = "every position" if len(repeated) == len(places) else f"{len(repeated)} of {len(places)} positions"
        counts = sorted({len(place) for place in repeated})
        times = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        what = f"There are {times} images at {where}, for example {names_of(repeated[0])}"
        guess = ""
    raise SeriesRefused(
        f"{what}{guess}. {_difference(repeated[0], normal)} Send each set as a series of its own.",
        kind="repeated-position",
    )


def _difference(place: Sequence[Plane], normal: FloatArray) -> str:
    """What the headers of images of one place say differently, the most telling attribute first."""
    offsets = np.array([plane.position - place[0].position for plane in place])
    in_plane = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1).max()
    if in_plane > 1.0:
        return f"They lie beside each other in one plane, up to {in_plane:.0f} mm apart."
    for keyword, words in TRAITS.items():
        values = list(dict.fromkeys(plane.traits.get(keyword, "none") for plane in place))
        if len(values) > 1:
            shown = ", ".join(value.replace("\\", "/") for value in values[:4])
            return f"They differ in {words} ({keyword}: {shown}{', ...' if len(values) > 4 else ''})."
    return "Their headers do not say what tells them apart."


def _require_one_contrast(ordered: Sequence[Plane]) -> None:
    """A mixture in which no place comes twice: what is left where half of each of two stacks was lost."""
    for keyword in UNIFORM_TRAITS:
        values = _without_rounding([plane.traits.get(keyword, "") for plane in ordered])
        _refuse_mixture(_grouped(ordered, values), f"{TRAITS[keyword]} ({keyword})")
    contrasts = ["/".join(_contrast_terms(plane)) for plane in ordered]
    _refuse_mixture(_grouped(ordered, contrasts), "image type (ImageType)")


def _refuse_mixture(groups: dict[str, list[Plane]], what: str) -> None:
    if len(groups) > 1:
        shown = "; ".join(f"{value or 'none'}: {names_of(members, 3)}" for value, members in list(groups.items())[:4])
        raise SeriesRefused(
            f"The slices differ in {what}: {shown}. They are no single volume; send each set whole and by itself.",
            kind="mixed-contrasts",
        )


def _contrast_terms(plane: Plane) -> list[str]:
    return sorted(CONTRAST_TERMS.intersection(plane.traits.get("ImageType", "").upper().split("\\")))


def _without_rounding(values: Sequence[str]) -> list[str]:
    """Numbers that differ by less than NUMBER_TOLERANCE made one: echo times may differ by microseconds."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return list(values)
    ascending = np.unique(numbers)
    steps = np.diff(ascending) > NUMBER_TOLERANCE * np.abs(ascending[1:])
    group = np.concatenate([[0], np.cumsum(steps)])
    first_of_group = ascending[np.searchsorted(group, group)]
    return [f"{value:g}" for value in first_of_group[np.searchsorted(ascending, numbers)]]


def _require_one_axis(ordered: Sequence[Plane], geometry: Geometry) -> None:
    """Origins lie on one straight line, upright or tilted; else slices were reconstructed in different places."""
    if len(ordered) < 2:
        return
    if geometry.tilt_degrees > MAX_TILT_DEGREES:
        raise SeriesRefused(
            f"The slices are staggered by {geometry.tilt_degrees:.0f} degrees against their normal "
            f"({ordered[0].name} to {ordered[-1].name}); a tilted gantry reaches 30. They are no single stack.",
            kind="shifted-slices",
        )
    along = (geometry.distances - geometry.distances[0]) / (geometry.distances[-1] - geometry.distances[0])
    straight = np.outer(along, geometry.in_plane_shifts[-1])
    offsets = np.linalg.norm(geometry.in_plane_shifts - straight, axis=1)
    worst = int(np.argmax(offsets))
    if offsets[worst] > max(1.0, *ordered[0].pixel_spacing):
        raise SeriesRefused(
            f"The slices do not lie above one another: {ordered[worst].name} is shifted by {offsets[worst]:.1f} mm "
            f"against the line from {ordered[0].name} to {ordered[-1].name}.",
            kind="shifted-slices",
        )


def _require_no_gap(ordered: Sequence[Plane], geometry: Geometry) -> None:
    gaps = find_gaps(geometry.distances, [plane.slice_thickness for plane in ordered])
    if not gaps:
        return
    missing = sum(gap.missing for gap in gaps)
    where = "; ".join(
        f"between {ordered[gap.below].name} and {ordered[gap.below + 1].name} lie {gap.width_mm:.4g} mm "
        f"instead of {gap.expected_mm:.4g} mm"
        for gap in gaps[:3]
    )
    more = f" and {len(gaps) - 3} more places" if len(gaps) > 3 else ""
    slices = "1 slice is" if missing == 1 else f"About {missing} slices are"
    raise SeriesRefused(f"{slices} missing: {where}{more}. Send the whole series again.", kind="gap")


def _grouped(planes: Sequence[Plane], values: Sequence[str]) -> dict[str, list[Plane]]:
    groups: dict[str, list[Plane]] = defaultdict(list)
    for plane, value in zip(planes, values, strict=True):
        groups[value].append(plane)
    return dict(groups)


def _size(plane: Plane) -> str:
    return f"{plane.pixel_spacing[0]:g} x {plane.pixel_spacing[1]:g}"
