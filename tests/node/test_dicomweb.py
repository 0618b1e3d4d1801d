"""A series that came by STOW-RS is segmented, and "sender" is the peer that the token belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.settings import load_settings
from tests.installed import orthanc_dicomweb
from tests.machines.site import series_uid, small_series
from tests.peers import orthanc
from tests.ports import free_port
from tests.quick.node import MODULE
from tests.receive.dicomweb.calling import TOKEN, orthanc_client, token_file
from tests.running_node import RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def test_orthanc_stores_a_series_over_http_and_gets_the_results_back(tmp_path: Path) -> None:
    orthanc_dicomweb()
    files, port = small_series(tmp_path, seed=0), free_port()
    config = write_config(tmp_path / "node")
    further = orthanc_client(f"http://127.0.0.1:{port}/dicom-web")
    with orthanc(tmp_path / "orthanc", {"DICOM_NODE": load_settings(config).node.port}, further) as pacs:
        peer = (
            f'[dicomweb]\nport = {port}\n[[peer]]\nae_title = "ORTHANC"\naddress = "127.0.0.1"\n'
            f'port = {pacs.destination.port}\ntoken_file = "{token_file(tmp_path)}"\n'
            '[[peer]]\nae_title = "SCANNER"\naddress = "127.0.0.1"\n'
            '[[rule]]\nname = "all"\nto = ["sender"]\n'
        )
        config.write_text(config.read_text() + peer)
        with (tmp_path / "log").open("wb") as log, RunningNode(config, {}, MODULE, log) as node:
            for path in files:
                pacs.upload(path)
            pacs.rest("POST", "/dicom-web/servers/node/stow", {"Resources": pacs.rest("GET", "/studies")})
            (case,) = node.wait_for_cases([series_uid(files)], seconds=240)
        modalities = [series["MainDicomTags"]["Modality"] for series in pacs.rest("GET", "/series?expand")]
    assert (case["state"], sorted(modalities)) == ("done", ["CT", "RTSTRUCT", "SEG"])
    assert TOKEN not in (tmp_path / "log").read_text()
