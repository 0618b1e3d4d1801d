"""What counts as the same object, and what is another one under a UID that is on record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gdcm
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.imaging import decoding
from dicom_node.receive.storing import Answer, Arrival
from tests.peers import run_tool
from tests.phantoms import PhantomSpec, write
from tests.receive.desk import Desk, arrival_of, changed


@pytest.fixture(scope="session")
def slices_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[[UID], Arrival]:
    """One CT slice, always the same object, in the asked transfer syntax."""
    plain = write(PhantomSpec(slices=3), tmp_path_factory.mktemp("plain"))[0]

    def in_syntax(syntax: UID) -> Arrival:
        path = tmp_path_factory.mktemp("syntax") / "slice.dcm"
        dataset = pydicom.dcmread(plain)
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax in {RLELossless, JPEGLSLossless}:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.compress(syntax, generate_instance_uid=False)
        elif syntax.is_compressed and not syntax.is_deflated:
            return _compressed_by_gdcm(plain, syntax, path)
        dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True, overwrite=True)
        return arrival_of(path)

    return in_syntax


def _compressed_by_gdcm(plain: Path, syntax: UID, path: Path) -> Arrival:
    kinds = {
        JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    }
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return arrival_of(path)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEGLosslessSV1,
        JPEG2000Lossless,
    ],
    ids=lambda uid: uid.keyword,
)
def test_the_same_object_in_another_transfer_syntax_counts_as_the_same(
    desk: Desk, slices_in: Callable[[UID], Arrival], syntax: UID
) -> None:
    assert desk.take(slices_in(ExplicitVRLittleEndian)).status == 0
    kept = desk.files[0].read_bytes()
    assert desk.take(slices_in(syntax)).status == 0
    assert desk.files[0].read_bytes() == kept


CONVERSIONS = [
    ("dcmconv", "+ti"),
    ("dcmconv", "+tb"),
    ("dcmconv", "+td"),
    ("dcmconv", "-e"),
    ("dcmcrle",),
    ("dcmcjpeg", "+e1"),
    ("dcmcjpls",),
]


@pytest.mark.peer
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
@pytest.mark.parametrize("command", CONVERSIONS, ids=" ".join)
def test_what_dcmtk_converts_of_a_scanners_file_counts_as_the_same(
    desk: Desk, tmp_path: Path, command: tuple[str, ...], name: str
) -> None:
    """With private elements, whose VR is lost in implicit VR."""
    original, converted = Path(str(get_testdata_file(name))), tmp_path / "converted.dcm"
    result = run_tool(*command, original, converted)
    assert result.returncode == 0, result.stdout
    assert desk.take(arrival_of(original)).status == 0
    assert desk.take(arrival_of(converted)) == Answer(0)
    assert len(desk.files) == 1


def _other_pixel(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = (
        b"\x01" + dataset.PixelData[1:] if dataset.PixelData[0] != 1 else b"\x02" + dataset.PixelData[1:]
    )


def _other_position(dataset: pydicom.Dataset) -> None:
    dataset.ImagePositionPatient = [1, 2, 3]


def _one_element_more(dataset: pydicom.Dataset) -> None:
    dataset.ImageComments = "another"


def _other_series(dataset: pydicom.Dataset) -> None:
    dataset.SeriesInstanceUID = "1.2.3.4"


@pytest.mark.parametrize("change", [_other_pixel, _other_position, _one_element_more, _other_series])
def test_a_different_object_under_the_same_uid_is_refused_and_the_first_kept(
    desk: Desk, arrival: Arrival, tmp_path: Path, change: Callable[[pydicom.Dataset], None]
) -> None:
    desk.take(arrival)
    kept, record = desk.files[0].read_bytes(), desk.intake.find(arrival.sop_instance_uid)
    answer = desk.take(changed(arrival, tmp_path, change))
    assert answer.status == 0x0111
    assert "on record" in answer.comment
    assert [path.read_bytes() for path in desk.files] == [kept]
    assert desk.intake.find(arrival.sop_instance_uid) == record


def test_where_the_decoder_does_not_start_the_sender_tries_again(
    desk: Desk, slices_in: Callable[[UID], Arrival], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "READY", b"never said")
    assert desk.take(slices_in(ExplicitVRLittleEndian)).status == 0
    answer = desk.take(slices_in(JPEG2000Lossless))
    assert answer.status == 0xA700
    assert "did not start" in answer.comment
