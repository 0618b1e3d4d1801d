"""Promise 4 for key images: the picture is decoded from its encoded bytes and held against voxels and labels.

For every pixel of every plane the place in the patient is computed again, and the voxel that lies there looked up. A
pixel in a structure's colour has to lie in that structure; a pixel of the structure with another neighbour has to be in
its colour; every other pixel is grey, and no brighter or darker than the voxels around its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom_node.errors import VerificationFailed
from dicom_node.imaging.geometry import FloatArray
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile
from dicom_node.results.attributes import owner_faults
from dicom_node.results.key_image_layout import SWATCH, Layout, PlacedPlane, lay_out
from dicom_node.results.key_image_picture import Picture, grey_window, shown
from dicom_node.results.object_file import Encoded, read_object, refusing_damage
from dicom_node.results.verification import Verification

_HEADER: Final[dict[str, object]] = {
    "Modality": "OT",
    "SamplesPerPixel": 3,
    "PhotometricInterpretation": "RGB",
    "PlanarConfiguration": 0,
    "BitsAllocated": 8,
    "BitsStored": 8,
    "ConversionType": "WSD",
}
_GREY_SAMPLES: Final = 2000
"""Pixels of a plane whose brightness is looked at."""
_ROUNDING: Final = 1


@dataclass(frozen=True)
class _Section:
    """What one plane of a decoded picture shows, beside what should be there.

    Attributes:
        name: Of the plane.
        pixels: (rows, columns, 3) as decoded.
        kji: (rows, columns, 3) fractional voxel indices of the pixel centres.
        layers: (rows, columns) labels at these places, one array a layer.
    """

    name: str
    pixels: Picture
    kji: FloatArray
    layers: tuple[npt.NDArray[np.int64], ...]


def verify_key_image(
    encoded: Encoded, labels: LabelVolume, volume: Volume, profile: Profile | None = None
) -> Verification:
    """Decode a key image and compare it with what it was made from.

    Args:
        encoded: The file, or its bytes.
        labels: What was drawn.
        volume: The source, with its voxels.
        profile: What it was made for; the default profile where None.

    Raises:
        VerificationFailed: A contour lies elsewhere or has another colour, the grey image is not the source's, or
            patient, study or references are wrong.
    """
    dataset = read_object(encoded)
    with refusing_damage("key image"):
        layout = lay_out(labels, profile or Profile())
        faults = [*owner_faults(dataset, volume), *_header_faults(dataset, volume, layout)]
        if not faults:
            faults += _picture_faults(dataset.pixel_array, labels, volume, layout)
    if faults:
        raise VerificationFailed(
            f"the encoded key image does not show the label volume it was made from: {'; '.join(faults)}",
            SOPInstanceUID=str(dataset.get("SOPInstanceUID", "")),
            SeriesInstanceUID=volume.series_instance_uid,
        )
    return Verification(kind="SC", sop_instance_uid=str(dataset.SOPInstanceUID), checks=())


def _header_faults(dataset: Dataset, volume: Volume, layout: Layout) -> Iterator[str]:
    size = {"Rows": layout.rows, "Columns": layout.columns}
    burned_in = "YES" if volume.header.get("BurnedInAnnotation") == "YES" else "NO"
    for keyword, value in {**_HEADER, **size, "BurnedInAnnotation": burned_in}.items():
        if dataset.get(keyword) != value:
            yield f"{keyword} is {dataset.get(keyword)}, {value} expected"
    if list(dataset.get("ImageType", ()))[:2] != ["DERIVED", "SECONDARY"]:
        yield "ImageType does not say that the image is derived"
    images = {str(item.get("ReferencedSOPInstanceUID")) for item in dataset.get("SourceImageSequence", [])}
    if images != {source.sop_instance_uid for source in volume.sources}:
        yield "the images that the object refers to are not the source's"


def _picture_faults(picture: Picture, labels: LabelVolume, volume: Volume, layout: Layout) -> Iterator[str]:
    for entry in layout.legend:
        middle = picture[entry.row + SWATCH // 2, entry.column + SWATCH // 2]
        if tuple(int(value) for value in middle) != entry.color:
            yield f"{entry.name}: another colour in the legend"
    for placed in layout.planes:
        section = _section(picture, placed, labels)
        yield from _colour_faults(section, labels, layout)
        yield from _grey_faults(section, volume)


def _section(picture: Picture, placed: PlacedPlane, labels: LabelVolume) -> _Section:
    plane = placed.plane
    pixels = picture[placed.row : placed.row + plane.rows, placed.column : placed.column + plane.columns]
    kji = labels.geometry.patient_to_index(plane.patient_mm()).reshape(plane.rows, plane.columns, 3)
    voxel = np.floor(kji + 0.5).astype(np.intp)
    shape = np.array(labels.geometry.shape)
    inside = ((voxel >= 0) & (voxel < shape)).all(axis=2)
    at = tuple(np.moveaxis(np.clip(voxel, 0, shape - 1), 2, 0))
    layers = tuple(np.where(inside, layer.labels[at], 0).astype(np.int64) for layer in labels.layers)
    return _Section(plane.name, pixels, kji, layers)


def _colour_faults(section: _Section, labels: LabelVolume, layout: Layout) -> Iterator[str]:
    codes = _code(section.pixels)
    drawn = [codes == _colors_at(here, layout) for here in section.layers]
    stray = ~(_is_grey(section.pixels) | np.any(drawn, axis=0))
    if stray.any():
        yield f"{np.count_nonzero(stray)} coloured pixels of the {section.name} plane lie in no such structure"
    for here in section.layers:
        # where structures overlap, the contour of the one may hide that of the other
        bare = _border(here) & np.isin(here, list(layout.colors)) & ~np.any(drawn, axis=0)
        for label in np.unique(here[bare]).tolist():
            name, count = labels.layer_of(label).structures[label].name, np.count_nonzero(here[bare] == label)
            yield f"{name}: {count} pixels of its border have no contour in the {section.name} plane"


def _code(pixels: Picture) -> npt.NDArray[np.int64]:
    """Each pixel's colour as one number."""
    return np.asarray(pixels.astype(np.int64) @ (1 << 16, 1 << 8, 1))


def _colors_at(here: npt.NDArray[np.int64], layout: Layout) -> npt.NDArray[np.int64]:
    """The colour of the structure at each place, as a number; -1 where there is none."""
    table = np.full(max(int(here.max(initial=0)), *layout.colors) + 1, -1)
    for label, (red, green, blue) in layout.colors.items():
        table[label] = (red << 16) + (green << 8) + blue
    return np.asarray(table[here])


def _grey_faults(section: _Section, volume: Volume) -> Iterator[str]:
    """Whether sampled grey pixels are as bright as one of the eight voxels around them, or between them."""
    window = grey_window(volume)
    shape = np.array(volume.voxels.shape)
    grey = _is_grey(section.pixels).ravel()
    inside = ((section.kji >= -0.5) & (section.kji < shape - 0.5)).all(axis=2).ravel()
    chosen = np.flatnonzero(grey & inside)
    chosen = chosen[:: max(1, len(chosen) // _GREY_SAMPLES)]
    lower = np.floor(section.kji.reshape(-1, 3)[chosen]).astype(np.intp)
    corners = np.array(np.meshgrid(*[(0, 1)] * 3)).reshape(3, -1).T
    around = np.clip(lower[:, None, :] + corners, 0, shape - 1)
    values = shown(volume.voxels[tuple(np.moveaxis(around, 2, 0))].astype(np.float64), window).astype(np.int64)
    found = section.pixels.reshape(-1, 3)[chosen, 0].astype(np.int64)
    wrong = (found < values.min(axis=1) - _ROUNDING) | (found > values.max(axis=1) + _ROUNDING)
    if wrong.any():
        yield f"{np.count_nonzero(wrong)} of {len(chosen)} grey pixels of the {section.name} plane are not the source's"


def _border(here: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Pixels that have a neighbour with another label; what lies beyond the plane is another."""
    padded = np.pad(here, 1, constant_values=-1)
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return np.asarray(np.any([here != neighbour for neighbour in neighbours], axis=0))


def _is_grey(pixels: Picture) -> npt.NDArray[np.bool_]:
    return np.asarray((pixels[..., 0] == pixels[..., 1]) & (pixels[..., 1] == pixels[..., 2]))
