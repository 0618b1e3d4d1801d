"""Orthanc's DICOMweb client stores a study to the node."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installed import orthanc_dicomweb
from tests.peers import Receiver, orthanc
from tests.receive.desk import arrival_of
from tests.receive.dicomweb.calling import orthanc_client


@pytest.mark.peer
@pytest.mark.parametrize("is_chunked", [True, False])
def test_orthanc_stores_a_study(web: Receiver, ct_files: list[Path], tmp_path: Path, is_chunked: bool) -> None:
    orthanc_dicomweb()
    url = f"http://127.0.0.1:{web.listener.dicomweb_port}/dicom-web"
    with orthanc(tmp_path / "orthanc", further=orthanc_client(url, is_chunked=is_chunked)) as source:
        for path in ct_files:
            source.upload(path)
        source.rest("POST", "/dicom-web/servers/node/stow", {"Resources": source.rest("GET", "/studies")})
    assert {arrival_of(path).encoded for path in web.spooled} == {arrival_of(path).encoded for path in ct_files}
