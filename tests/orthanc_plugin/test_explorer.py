"""The line and the button on the page of a series in Orthanc Explorer, in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.installed import orthanc_python
from tests.orthanc_plugin.site import Site, scan, small, wait_for
from tests.peers import tool

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def test_a_person_sees_how_a_series_stands_and_has_it_run_again(chromium: Browser, tmp_path: Path) -> None:
    orthanc_python()
    for name in ("Orthanc", "storescu"):
        tool(name)
    site, sent = Site(tmp_path), scan(tmp_path / "scan", [small("CT"), small("MR")])
    with site.running(with_node=False), chromium.new_context() as tab:
        assert site.orthanc.send(sent.folder) == 0
        page = tab.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        identifier = site.orthanc.series(sent.series[0])
        page.goto(f"http://127.0.0.1:{site.orthanc.http_port}/app/explorer.html#series?uuid={identifier}")
        missed = f"Segmentation: delayed: nobody listens on 127.0.0.1 port {site.orthanc.node_port}"
        page.get_by_text(missed).wait_for(timeout=60_000)
        page.click("#dicom-node-rerun")
        wait_for(lambda: "5110" in site.orthanc.rest("GET", f"/series/{identifier}/metadata"), "it is remembered", 30)
    assert faults == []
