"""What programs of others say about results whose geometry is plain; tests/matrix has every geometry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.anatomy import load_anatomy
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import write_object
from dicom_node.results.rtstruct import encode_rtstruct
from tests.judges import dcentvfy, dciodvfy
from tests.phantoms import write
from tests.results.sources import EVERY, PROVENANCE, phantom, volume_of

pytestmark = pytest.mark.peer


def test_dicom3tools_find_no_fault_in_any_structure_of_the_anatomy(tmp_path: Path) -> None:
    source = phantom("axial")
    structures = dict(enumerate(load_anatomy().values(), start=1))
    labels = np.zeros(source.labels.shape, dtype=np.uint16)
    flat = labels[4:6].reshape(2, -1, labels.shape[2])
    for label in structures:
        flat[label % 2, label // 2, 5:30] = label  # one row of pixels each
    label_volume = LabelVolume(labels, source.geometry, structures)
    assert [label for label, _ in label_volume.present()] == list(structures)
    provenance = replace(PROVENANCE, weights_sha256="", algorithm_type="SEMIAUTOMATIC")
    seg, rtstruct = tmp_path / "all.seg.dcm", tmp_path / "all.rtstruct.dcm"
    write_object(seg, encode_seg(volume_of(source), label_volume, provenance))
    write_object(rtstruct, encode_rtstruct(volume_of(source), label_volume, provenance))
    assert dciodvfy(seg) == []
    assert dciodvfy(rtstruct) == []
    assert dcentvfy([*write(EVERY["axial"], tmp_path / "series"), seg, rtstruct]) == []
