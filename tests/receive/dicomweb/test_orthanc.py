"""Orthanc's DICOMweb client stores a study to the node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.peers import ORTHANC_DICOMWEB, Receiver, orthanc
from tests.receive.desk import arrival_of
from tests.receive.dicomweb.calling import TOKEN


@pytest.mark.peer
@pytest.mark.parametrize("is_chunked", [True, False])
def test_orthanc_stores_a_study(web: Receiver, ct_files: list[Path], tmp_path: Path, is_chunked: bool) -> None:
    if not ORTHANC_DICOMWEB.is_file():
        if os.environ.get("DICOM_NODE_JUDGES_REQUIRED"):
            pytest.fail("orthanc-dicomweb is not installed")
        pytest.skip("orthanc-dicomweb is not installed (apt: orthanc-dicomweb)")
    server = {
        "Url": f"http://127.0.0.1:{web.listener.dicomweb_port}/dicom-web",
        "HttpHeaders": {"Authorization": f"Bearer {TOKEN}"},
        "ChunkedTransfers": is_chunked,
    }
    further = {"Plugins": [str(ORTHANC_DICOMWEB)], "DicomWeb": {"Enable": True, "Servers": {"node": server}}}
    with orthanc(tmp_path / "orthanc", further=further) as source:
        for path in ct_files:
            source.post_file(path)
        studies = source.rest("GET", "/studies")
        answer = source.rest("POST", "/dicom-web/servers/node/stow", {"Resources": studies, "Synchronous": True})
    assert answer
    assert {arrival_of(path).encoded for path in web.spooled} == {arrival_of(path).encoded for path in ct_files}
