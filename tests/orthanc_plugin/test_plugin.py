"""The plugin in a real Orthanc, with a node that comes later and dies: one story, asked about from several sides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.installed import orthanc_python
from tests.orthanc_plugin.server import SCRIPT, PluginServer
from tests.orthanc_plugin.site import Scan, Site, scan, small, wait_for
from tests.peers import Peer, dcmqrscp, orthanc, tool
from tests.ports import free_port

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    for name in ("Orthanc", "storescu"):
        tool(name)
    orthanc_python()


@dataclass(frozen=True)
class Story:
    """A CT and an MR came while there was no node; Orthanc was killed before they were stable; the node came, and its
    listener was killed while it received.

    Attributes:
        outage: What the plugin said of the CT while there was no node.
        pacs: dcmtk's archive, another destination of the node.
        second: An Orthanc without the plugin, a third one.
    """

    site: Site
    sent: Scan
    outage: str
    pacs: Peer
    second: Peer


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("site")
    sent = scan(folder / "scan", [small("CT"), small("MR")])
    with dcmqrscp(folder / "pacs") as pacs, orthanc(folder / "second") as second:
        others = [pacs.destination, second.destination.model_copy(update={"name": "second"})]
        site = Site(folder, others=others)
        with site.running(with_node=False):
            assert site.orthanc.send(sent.folder) == 0
            site.orthanc.kill()
            site.orthanc.start()
            wait_for(lambda: bool(site.orthanc.rest("GET", "/dicom-node")["outage"]), "the plugin misses the node")
            outage = site.orthanc.standing(sent.series[0])["text"]
            site.node.start()
            wait_for(
                lambda: bool({"handing over", "handed over"} & {*_states(site, sent)}), "the plugin sends", look=0.02
            )
            site.node.kill_role("listen")
            wait_for(lambda: site.is_complete(sent), "results of both series in Orthanc")
            yield Story(site, sent, outage, pacs, second)


def _states(site: Site, sent: Scan) -> list[str]:
    return [site.orthanc.standing(series)["state"] for series in sent.series]


def test_results_are_in_the_study_once_whatever_was_killed(story: Story) -> None:
    site, sent = story.site, story.sent
    assert site.surplus(sent) == []


def test_results_are_at_the_other_destinations_too(story: Story) -> None:
    at_second = [each["MainDicomTags"]["SOPInstanceUID"] for each in story.second.rest("GET", "/instances?expand")]
    at_pacs = [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in stored_files(story.pacs)]
    planned = [result["sop_instance_uid"] for case in story.site.node.cases() for result in case["outputs"]["results"]]
    assert sorted(at_second) == sorted(at_pacs) == sorted(planned)
    assert len(planned) == 4


def test_who_looks_while_the_node_is_away_reads_so(story: Story) -> None:
    site = story.site
    assert story.outage == f"delayed: nobody listens on 127.0.0.1 port {site.orthanc.node_port}"


def test_results_do_not_go_to_the_node(story: Story) -> None:
    site = story.site
    series = site.orthanc.rest("GET", "/series?expand")
    results = [each["ID"] for each in series if each["MainDicomTags"]["Modality"] in {"SEG", "RTSTRUCT"}]
    assert len(results) == 4
    states = [site.orthanc.rest("GET", f"/dicom-node/series/{each}")["state"] for each in results]
    assert set(states) == {"not for the node"}
    assert site.orthanc.rest("POST", f"/dicom-node/series/{results[0]}/rerun") == 409
    assert len(site.node.cases()) == 2


def test_a_result_that_was_deleted_comes_back_when_a_person_asks(story: Story) -> None:
    site, sent = story.site, story.sent
    for each in site.orthanc.rest("GET", "/series?expand"):
        if each["MainDicomTags"]["Modality"] == "SEG":
            site.orthanc.rest("DELETE", f"/series/{each['ID']}")
    assert not site.is_complete(sent)
    for series in sent.series:
        path = f"/dicom-node/series/{site.orthanc.series(series)}/rerun"
        assert site.orthanc.rest("POST", path)["state"] == "waiting"
    wait_for(lambda: site.is_complete(sent), "the deleted results are back")


def test_orthanc_explorer_is_given_the_button(story: Story) -> None:
    site = story.site
    with_extensions = f"http://127.0.0.1:{site.orthanc.http_port}/plugins/explorer.js"
    assert "dicom-node-rerun" in _text(with_extensions)


def test_orthanc_stops_cleanly_and_remembers_what_was_handed_over(story: Story) -> None:
    site, sent = story.site, story.sent
    assert site.orthanc.stop() == 0
    site.orthanc.start()
    wait_for(lambda: _has_looked_at_everything(site), "a look at everything")
    assert _states(site, sent) == ["handed over", "handed over"]
    assert "Traceback" not in site.orthanc.log


def test_the_plugin_outlives_a_reset_which_starts_python_anew(story: Story) -> None:
    site, sent = story.site, story.sent
    site.orthanc.rest("POST", "/tools/reset")
    wait_for(lambda: site.orthanc.log.count("Orthanc is stopping") >= 2, "Orthanc resets itself")
    wait_for(lambda: _has_looked_at_everything(site), "a look at everything")
    assert _states(site, sent) == ["handed over", "handed over"]
    assert "Traceback" not in site.orthanc.log


def _has_looked_at_everything(site: Site) -> bool:
    with suppress(OSError):  # it is just starting
        overview = site.orthanc.rest("GET", "/dicom-node")
        return isinstance(overview, dict) and overview["reconciled_at"] is not None and overview["waiting"] == 0
    return False


def test_a_wrong_setting_is_named_in_orthancs_log(tmp_path: Path) -> None:
    wrong = PluginServer(tmp_path, free_port(), bridge={"Modalty": "node"})
    with pytest.raises(RuntimeError, match="before it listened"), wrong:
        pass
    assert 'unknown key "DicomNode.Modalty"' in wrong.log
    assert SCRIPT.name in wrong.log


def stored_files(peer: Peer) -> list[Path]:
    """The objects that dcmqrscp keeps, beside its index."""
    return sorted(path for path in peer.folder.iterdir() if path.is_file() and path.name != "index.dat")


def _text(url: str) -> str:
    import urllib.request  # noqa: PLC0415 - one test alone asks for text

    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())
