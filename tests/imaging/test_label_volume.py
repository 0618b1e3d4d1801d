"""A label volume: one label per voxel on its source's slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_node.anatomy import load_anatomy
from dicom_node.imaging.label_volume import LabelVolume
from tests.phantoms import PhantomSpec, build


def labelled() -> LabelVolume:
    phantom = build(PhantomSpec())
    structures = {label: load_anatomy()[name] for label, name in phantom.names.items()}
    return LabelVolume(phantom.labels, phantom.geometry, {**structures, 10: load_anatomy()["Sacrum"]})


def test_present_structures_come_in_order_without_the_empty_one() -> None:
    assert [label for label, _ in labelled().present()] == list(range(1, 10))


def test_mask_is_where_the_label_is() -> None:
    volume = labelled()
    assert volume.mask(6).sum() == 1
    assert volume.mask(10).sum() == 0


def test_labels_on_another_grid_are_refused() -> None:
    volume = labelled()
    with pytest.raises(ValueError, match="shape"):
        replace(volume, labels=np.zeros((2, 2, 2), dtype=np.uint8))
