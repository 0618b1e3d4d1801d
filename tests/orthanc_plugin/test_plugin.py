"""The plugin in a real Orthanc, with a node that comes later and dies: one story, asked about from several sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orthanc_plugin.server import PYTHON_PLUGIN, SCRIPT, PluginServer
from tests.orthanc_plugin.site import Scan, Site, scan, small, wait_for
from tests.peers import tool
from tests.ports import free_port

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    for name in ("Orthanc", "storescu"):
        tool(name)
    if not PYTHON_PLUGIN.is_file():
        pytest.skip("the Python plugin of Orthanc is not installed (apt: orthanc-python)")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Scan, str]]:
    """A CT and an MR came while there was no node; Orthanc was killed before they were stable; the node came, and its
    listener was killed while it received.
    """
    folder = tmp_path_factory.mktemp("site")
    site, sent = Site(folder), scan(folder / "scan", [small("CT"), small("MR")])
    with site.running(with_node=False):
        assert site.orthanc.send(sent.folder) == 0
        site.orthanc.kill()
        site.orthanc.start()
        wait_for(lambda: bool(site.orthanc.rest("GET", "/dicom-node")["outage"]), "the plugin misses the node")
        outage = site.orthanc.standing(sent.series[0])["text"]
        site.node.start()
        wait_for(lambda: "handing over" in _states(site, sent), "the plugin sends", look=0.02)
        site.node.kill_role("listen")
        wait_for(lambda: site.is_complete(sent), "results of both series in Orthanc")
        yield site, sent, outage


def _states(site: Site, sent: Scan) -> list[str]:
    return [site.orthanc.standing(series)["state"] for series in sent.series]


def test_results_are_in_the_study_once_whatever_was_killed(story: tuple[Site, Scan, str]) -> None:
    site, sent, _ = story
    assert site.surplus(sent) == []


def test_who_looks_while_the_node_is_away_reads_so(story: tuple[Site, Scan, str]) -> None:
    site, _, outage = story
    assert outage == f"delayed: nobody listens on 127.0.0.1 port {site.orthanc.node_port}"


def test_results_do_not_go_to_the_node(story: tuple[Site, Scan, str]) -> None:
    site, _, _ = story
    series = site.orthanc.rest("GET", "/series?expand")
    results = [each["ID"] for each in series if each["MainDicomTags"]["Modality"] in {"SEG", "RTSTRUCT"}]
    assert len(results) == 4
    states = [site.orthanc.rest("GET", f"/dicom-node/series/{each}")["state"] for each in results]
    assert set(states) == {"not for the node"}
    assert site.orthanc.rest("POST", f"/dicom-node/series/{results[0]}/rerun") == 409
    assert len(site.node.cases()) == 2


def test_a_result_that_was_deleted_comes_back_when_a_person_asks(story: tuple[Site, Scan, str]) -> None:
    site, sent, _ = story
    for each in site.orthanc.rest("GET", "/series?expand"):
        if each["MainDicomTags"]["Modality"] == "SEG":
            site.orthanc.rest("DELETE", f"/series/{each['ID']}")
    assert not site.is_complete(sent)
    for series in sent.series:
        path = f"/dicom-node/series/{site.orthanc.series(series)}/rerun"
        assert site.orthanc.rest("POST", path)["state"] == "waiting"
    wait_for(lambda: site.is_complete(sent), "the deleted results are back")


def test_orthanc_explorer_is_given_the_button(story: tuple[Site, Scan, str]) -> None:
    site, _, _ = story
    with_extensions = f"http://127.0.0.1:{site.orthanc.http_port}/plugins/explorer.js"
    assert "dicom-node-rerun" in _text(with_extensions)


def test_orthanc_stops_at_once_and_remembers_what_was_handed_over(story: tuple[Site, Scan, str]) -> None:
    site, sent, _ = story
    assert site.orthanc.stop() == 0
    site.orthanc.start()
    wait_for(lambda: site.orthanc.rest("GET", "/dicom-node")["reconciled_at"] is not None, "a look at everything")
    wait_for(lambda: site.orthanc.rest("GET", "/dicom-node")["waiting"] == 0, "nothing waits")
    assert _states(site, sent) == ["handed over", "handed over"]
    assert "Traceback" not in site.orthanc.log


def test_a_wrong_setting_is_named_in_orthancs_log(tmp_path: Path) -> None:
    wrong = PluginServer(tmp_path, free_port(), bridge={"Modalty": "node"})
    with pytest.raises(RuntimeError, match="before it listened"), wrong:
        pass
    assert 'unknown key "DicomNode.Modalty"' in wrong.log
    assert SCRIPT.name in wrong.log


def _text(url: str) -> str:
    import urllib.request  # noqa: PLC0415 - one test alone asks for text

    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())
