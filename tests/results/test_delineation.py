"""Labels and the body's outline, put together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import InputRefused
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.results.delineation import delineate
from tests.results.sources import phantom, volume_of

VOLUME = volume_of(phantom("axial"))
BODY = np.ones(VOLUME.geometry.shape, dtype=np.uint8)


def labels_with(*numbers: int) -> LabelVolume:
    """The first voxels of the volume, one for each of the given labels."""
    labels = np.zeros(VOLUME.geometry.shape, dtype=np.uint16)
    labels.flat[: len(numbers)] = numbers
    liver = load_anatomy()["Liver"]
    return LabelVolume(labels, VOLUME.geometry, {number: replace(liver, name=f"S{number}") for number in numbers})


@pytest.mark.parametrize(
    ("taken", "free"), [((1, 2), 3), ((1, 65535), 2), ((2, 300), 1), (tuple(range(1, 256)), 256), ((65535,), 1)]
)
def test_the_outline_gets_the_lowest_free_label(taken: tuple[int, ...], free: int) -> None:
    outlined = delineate(VOLUME, labels_with(*taken), BODY).outlined
    assert outlined.layer_of(free).structures == {free: load_anatomy()["External"]}
    assert outlined.mask(free).all()


def test_labels_of_overlays_are_taken_too() -> None:
    labels = replace(labels_with(1, 3), overlays=(labels_with(2),))
    assert delineate(VOLUME, labels, BODY).outlined.mask(4).all()


def test_an_outline_for_which_no_label_is_left_is_refused() -> None:
    with pytest.raises(InputRefused, match="all 65535 labels are taken"):
        delineate(VOLUME, labels_with(*range(1, 65536)), BODY)


def test_a_structure_of_type_external_keeps_its_place() -> None:
    labels = labels_with(1)
    labels = replace(labels, structures={1: replace(load_anatomy()["External"], name="Skin")})
    assert delineate(VOLUME, labels, BODY).outlined is labels
