"""Deliberate faults in a key image: the gate lets none of them out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.errors import NodeError, VerificationFailed
from dicom_node.profiles import Profile
from dicom_node.results.key_image import encode_key_image
from dicom_node.results.key_image_checking import verify_key_image
from dicom_node.results.key_image_layout import Layout, lay_out
from dicom_node.results.object_file import read_object, to_bytes
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of

NAME = "anisotropic"


@cache
def encoded() -> bytes:
    return to_bytes(encode_key_image(volume_of(phantom(NAME)), labels_of(phantom(NAME)), PROVENANCE))


def refused(damaged: Dataset, reason: str) -> None:
    with pytest.raises(VerificationFailed, match=reason):
        verify_key_image(to_bytes(damaged), labels_of(phantom(NAME)), volume_of(phantom(NAME)))


@pytest.mark.parametrize("name", ["sagittal", "oblique", "feet first", "tilted", "uneven"])
def test_without_a_fault_it_passes(name: str) -> None:
    volume, labels = volume_of(phantom(name)), labels_of(phantom(name))
    dataset = encode_key_image(volume, labels, PROVENANCE)
    assert verify_key_image(to_bytes(dataset), labels, volume).sop_instance_uid == dataset.SOPInstanceUID


def mirrored(panel: np.ndarray) -> np.ndarray:
    return panel[:, ::-1]


def shifted(panel: np.ndarray) -> np.ndarray:
    return np.roll(panel, 2, axis=1)


def is_grey(panel: np.ndarray) -> np.ndarray:
    return (panel == panel[..., :1]).all(axis=2, keepdims=True)


def mirrored_grey(panel: np.ndarray) -> np.ndarray:
    both = is_grey(panel) & is_grey(panel)[:, ::-1]
    return np.where(both, panel[:, ::-1], panel)


def without_contours(panel: np.ndarray) -> np.ndarray:
    return np.where(is_grey(panel), panel, panel[..., :1])


def red_and_blue_swapped(panel: np.ndarray) -> np.ndarray:
    return panel[..., ::-1]


PICTURE_FAULTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "mirrored": (mirrored, "lie in no such structure"),
    "upside down": (np.flipud, "lie in no such structure"),
    "contours and image two pixels off": (shifted, "lie in no such structure"),
    "the image mirrored under its contours": (mirrored_grey, "grey pixels of the .* plane are not the source's"),
    "no contours": (without_contours, "of its border have no contour"),
    "red and blue swapped": (red_and_blue_swapped, "lie in no such structure"),
}


@pytest.mark.parametrize("fault", PICTURE_FAULTS)
def test_a_fault_in_the_first_plane(fault: str) -> None:
    change, reason = PICTURE_FAULTS[fault]
    dataset, layout = read_object(encoded()), lay_out(labels_of(phantom(NAME)), Profile())
    pixels, (placed, *_) = dataset.pixel_array.copy(), layout.planes
    part = np.s_[placed.row : placed.row + placed.plane.rows, placed.column : placed.column + placed.plane.columns]
    pixels[part] = change(pixels[part].copy())
    dataset.PixelData = pixels.tobytes()
    refused(dataset, reason)


def test_colours_of_two_structures_swapped() -> None:
    dataset, layout = read_object(encoded()), lay_out(labels_of(phantom(NAME)), Profile())
    pixels = dataset.pixel_array.copy()
    first, second = shown_colors(pixels, layout)[:2]
    ones, others = ((pixels == color).all(axis=2) for color in (first, second))
    pixels[ones], pixels[others] = second, first
    dataset.PixelData = pixels.tobytes()
    refused(dataset, "another colour in the legend")


def shown_colors(pixels: np.ndarray, layout: Layout) -> list[tuple[int, int, int]]:
    return [color for color in layout.colors.values() if (pixels == color).all(axis=2).any()]


HEADER_FAULTS: dict[str, tuple[Callable[[Dataset], None], str]] = {
    "somebody else's name": (lambda d: setattr(d, "PatientName", "Else^Somebody"), "PatientName"),
    "another study": (lambda d: setattr(d, "StudyInstanceUID", "1.2.3"), "StudyInstanceUID"),
    "in the source's series": (
        lambda d: setattr(d, "SeriesInstanceUID", volume_of(phantom(NAME)).series_instance_uid),
        "the source's own series",
    ),
    "a source left out": (lambda d: d.SourceImageSequence.pop(0), "images that the object refers to"),
    "of a modality that is segmented": (lambda d: setattr(d, "Modality", "CT"), "Modality is CT, OT expected"),
    "as if acquired": (lambda d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY"]), "ImageType"),
    "columns": (lambda d: setattr(d, "Columns", d.Columns - 1), "Columns is"),
    "colour by plane": (lambda d: setattr(d, "PlanarConfiguration", 1), "PlanarConfiguration is 1"),
    "burned in": (lambda d: setattr(d, "BurnedInAnnotation", "YES"), "BurnedInAnnotation is YES"),
}


@pytest.mark.parametrize("fault", HEADER_FAULTS)
def test_a_fault_in_the_header(fault: str) -> None:
    damage, reason = HEADER_FAULTS[fault]
    dataset = read_object(encoded())
    damage(dataset)
    refused(dataset, reason)


def test_pixels_cut_off() -> None:
    with pytest.raises(NodeError):
        verify_key_image(encoded()[:-100_000], labels_of(phantom(NAME)), volume_of(phantom(NAME)))
