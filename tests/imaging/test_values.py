"""From stored values to modality units: rescale, sign, unused bits, padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.imaging.pixels import AIR_HU, _stored_values
from dicom_node.imaging.series import load_series
from tests.imaging.editing import SMALL, SMALL_MR, edited, refusal
from tests.phantoms import build
from tests.phantoms.encoding import set_pixel_data

SYNTAXES = [
    *(ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLossless),
    *(JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless),
]


def set_stored(dataset: Dataset, stored: np.ndarray, bits: int = 16, *, signed: bool = True) -> None:
    dataset.PixelRepresentation = int(signed)
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()


def test_signed_pixels(tmp_path: Path) -> None:
    stored = np.arange(16 * 12).reshape(16, 12) - 100

    def edit(_: int, dataset: Dataset) -> None:
        set_stored(dataset, stored)
        dataset.RescaleIntercept = "-24"

    volume = load_series([edited(SMALL, tmp_path, edit)])
    assert np.array_equal(volume.voxels[3], stored - 24)


@given(st.lists(st.integers(-2048, 2047), min_size=4, max_size=4), st.integers(0, 15))
def test_bits_above_the_stored_ones_are_cleared_and_the_sign_extended(values: list[int], overlay: int) -> None:
    """12 bits of 16: overlays or garbage may sit in the other four (PS3.5 8.1.1, retired but alive)."""
    header = Dataset()
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 1
    truth = np.array(values)
    raw = ((truth & 0x0FFF) | (overlay << 12)).astype(np.uint16).view(np.int16)
    assert np.array_equal(_stored_values(raw, header), truth)


def test_unsigned_bits_above_the_stored_ones_are_cleared() -> None:
    header = Dataset()
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    assert _stored_values(np.array([0xF123], dtype=np.uint16), header)[0] == 0x123


def test_rescale_of_each_slice_is_its_own(tmp_path: Path) -> None:
    def edit(index: int, dataset: Dataset) -> None:
        dataset.RescaleSlope = str(index + 1)
        dataset.RescaleIntercept = str(-index)

    volume = load_series([edited(SMALL, tmp_path, edit)])
    stored = build(SMALL).voxels.astype(int) + 1024
    for k in range(6):
        assert np.array_equal(volume.voxels[k], stored[k] * (k + 1) - k)


def test_fractional_slope_gives_float32(tmp_path: Path) -> None:
    def edit(index: int, dataset: Dataset) -> None:
        dataset.RescaleSlope = "0.25" if index == 4 else "1"
        dataset.RescaleIntercept = "0"

    volume = load_series([edited(SMALL_MR, tmp_path, edit)])
    stored = build(SMALL_MR).voxels
    assert volume.voxels.dtype == np.float32
    assert np.array_equal(volume.voxels[3], stored[3])
    assert np.allclose(volume.voxels[4], stored[4] * 0.25)


def test_values_beyond_int16_give_float32(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        set_stored(dataset, np.full((16, 12), 60000), signed=False)

    volume = load_series([edited(SMALL_MR, tmp_path, edit)])
    assert volume.voxels.dtype == np.float32
    assert volume.voxels.max() == 60000


@pytest.mark.parametrize("padding", [-2000, 63536], ids=["signed", "as unsigned"])
def test_padding_is_air_in_ct(tmp_path: Path, padding: int) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        stored = np.full((16, 12), 1064)
        stored[:2] = -2000
        set_stored(dataset, stored)
        dataset.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)

    volume = load_series([edited(SMALL, tmp_path, edit)])
    assert (volume.voxels[:, :2] == AIR_HU).all()
    assert (volume.voxels[:, 2:] == 40).all()


def test_padding_range_is_air_in_ct(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        stored = np.full((16, 12), 1064)
        stored[0], stored[1], stored[2] = -2000, -1990, -1980
        set_stored(dataset, stored)
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        dataset.add_new("PixelPaddingRangeLimit", "SS", -1990)

    voxels = load_series([edited(SMALL, tmp_path, edit)]).voxels[0, :, 0]
    assert list(voxels[:4]) == [AIR_HU, AIR_HU, -3004, 40]


def test_ct_without_rescale_is_refused(tmp_path: Path) -> None:
    def edit(index: int, dataset: Dataset) -> None:
        if index == 2:
            del dataset.RescaleSlope

    refused = refusal(edited(SMALL, tmp_path, edit))
    assert refused.kind == "no-rescale"
    assert "image 3" in refused.message


def test_ct_values_that_are_no_hounsfield_units_are_refused(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.RescaleType = "Z_EFF"

    assert refusal(edited(SMALL, tmp_path, edit)).kind == "not-hounsfield"


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_signed_pixels_survive_every_transfer_syntax(tmp_path: Path, syntax: UID, bits: int) -> None:
    """GE writes CT as signed 16 bits with -2000 outside the circle; decoders differ in how they see the sign."""
    generator = np.random.default_rng(7)
    stored = generator.integers(-2000, 2047, (6, 16, 12))

    def edit(k: int, dataset: Dataset) -> None:
        dataset.PixelRepresentation = 1
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.RescaleIntercept = "0"
        set_pixel_data(dataset, stored[k].astype(np.int16).view(np.uint16), syntax)

    volume = load_series([edited(SMALL, tmp_path, edit)])
    assert np.array_equal(volume.voxels, stored)


def test_padding_is_air_beside_a_fractional_slope(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "-100"
        dataset.add_new("PixelPaddingValue", "US", 0)
        set_stored(dataset, np.repeat([0, 300], 96).reshape(16, 12), signed=False)

    voxels = load_series([edited(SMALL, tmp_path, edit)]).voxels
    assert (voxels[:, :8] == AIR_HU).all()
    assert (voxels[:, 8:] == 50).all()


def test_negative_padding_of_unsigned_pixels(tmp_path: Path) -> None:
    """-1 in an unsigned image is 65535, where a decoder of the header took the value as signed."""

    def edit(_: int, dataset: Dataset) -> None:
        dataset.add_new("PixelPaddingValue", "SS", -1)
        set_stored(dataset, np.repeat([65535, 1064], 96).reshape(16, 12), signed=False)

    voxels = load_series([edited(SMALL, tmp_path, edit)]).voxels
    assert (voxels[:, :8] == AIR_HU).all()
    assert (voxels[:, 8:] == 40).all()
