"""Results as files: each profile's objects hold what that profile asks for, whatever others ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.errors import InputRefused
from dicom_node.profiles import Profile
from dicom_node.results.delineation import Delineation, delineate
from dicom_node.results.result_files import encode_results, verify_results
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of


@pytest.fixture
def outlined() -> Delineation:
    """Labels with the body's outline, which some destination wants."""
    labels = labels_of(phantom("axial"))
    return delineate(volume_of(phantom("axial")), labels, np.ones(labels.labels.shape, dtype=np.uint8))


@pytest.mark.parametrize("external", [True, False])
def test_the_outline_is_in_the_structure_set_only_where_its_own_profile_wants_it(
    external: bool, outlined: Delineation, tmp_path: Path
) -> None:
    profile = Profile(results=("RTSTRUCT",), external=external)
    written = encode_results(outlined, PROVENANCE, tmp_path / "case", profile)
    verify_results(written.files, outlined)
    names = [roi.ROIName for roi in dcmread(written.files[0].path).StructureSetROISequence]
    assert ("External" in names, "Liver" in names) == (external, True)


def test_the_outline_alone_is_no_structure_set(outlined: Delineation, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"none of the wanted structures \(Patella\)"):
        encode_results(outlined, PROVENANCE, tmp_path / "case", Profile(results=("RTSTRUCT",), structures=("Patella",)))
    assert list(tmp_path.iterdir()) == []


def test_a_key_image_is_written_beside_the_others_where_a_profile_asks_for_it(
    outlined: Delineation, tmp_path: Path
) -> None:
    written = encode_results(outlined, PROVENANCE, tmp_path / "case", Profile(results=("SEG", "RTSTRUCT", "SC")))
    assert [file.path.name for file in written.files] == ["case.seg.dcm", "case.rtstruct.dcm", "case.sc.dcm"]
    assert [verified.kind for verified in verify_results(written.files, outlined)] == ["SEG", "RTSTRUCT", "SC"]


def test_an_irregular_series_without_structure_set_keeps_its_key_image(tmp_path: Path) -> None:
    labels = labels_of(phantom("tilted"))
    delineation = Delineation(volume_of(phantom("tilted")), labels, labels)
    written = encode_results(delineation, PROVENANCE, tmp_path / "case", Profile(results=("RTSTRUCT", "SC")))
    verify_results(written.files, delineation)
    assert ([file.kind for file in written.files], written.notes[0][:11]) == (["SC"], "no RTSTRUCT")
