"""What is handed over, when, and how often: the bridge with a stand-in for Orthanc."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from dicom_node.orthanc_bridge import Bridge, install
from dicom_node.orthanc_bridge.handover import GONE_SECONDS
from dicom_node.orthanc_bridge.orthanc_module import OrthancModule
from dicom_node.orthanc_bridge.routes import PATTERNS, Routes
from dicom_node.orthanc_bridge.settings import BridgeSettings
from dicom_node.uids import MANUFACTURER
from tests.orthanc_plugin.fake import CT, SECONDARY_CAPTURE, FakeNode, FakeOrthanc, FakeSeries

ONE, OTHER = (f"{digit * 8}-00000000-00000000-00000000-00000000" for digit in "12")
SETTINGS = BridgeSettings(
    stable_seconds=60, retry_seconds=(10, 100), reconcile_seconds=1000, series_in_flight=4, node_url="http://node"
)
EVENTS = FakeOrthanc.ChangeType


def series(prefix: str = "i", **changes: Any) -> FakeSeries:
    return FakeSeries({f"{prefix}{index}": CT for index in range(3)}, last_update=2e6, **changes)


@dataclass
class Site:
    """An Orthanc, a node, a bridge, and a clock that only the test moves; its start was long before."""

    settings: BridgeSettings = SETTINGS
    orthanc: FakeOrthanc = field(default_factory=FakeOrthanc)
    now: float = 3e6

    def __post_init__(self) -> None:
        self.orthanc.properties[SETTINGS.metadata] = "1000000"
        self.node = FakeNode(self.settings)
        self.restart()

    def restart(self, pause: float = 61.0) -> None:
        """A new process of Orthanc, with the same database, and a pause after that."""
        module: OrthancModule = self.orthanc  # type: ignore[assignment] # an exception type stands where one is named
        self.bridge = Bridge(module, self.settings, self.node, lambda: self.now)
        self.bridge.prepare()
        self.now += pause

    def run(self, turns: int = 20) -> None:
        for _ in range(turns):
            self.bridge.turn()

    def becomes_stable(self, orthanc_id: str) -> None:
        self.bridge.on_change(EVENTS.STABLE_SERIES, 2, orthanc_id)

    def note(self, orthanc_id: str = ONE) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.orthanc.content[orthanc_id].metadata.get(SETTINGS.metadata, "{}"))
        return document

    def hand_over(self, orthanc_id: str = ONE) -> None:
        self.becomes_stable(orthanc_id)
        self.run()
        self.orthanc.end_job("Success")
        self.run()


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_stable_series_is_sent_and_noted_only_when_all_of_it_was_acknowledged(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    site.run()
    assert site.orthanc.sent == [["i0", "i1", "i2"]]
    assert site.note() == {}
    site.orthanc.end_job("Success")
    site.run()
    assert (site.note()["state"], site.note()["images"]) == ("handed over", 3)


def test_the_node_is_told_how_many_images_will_come(site: Site) -> None:
    """Were Orthanc killed in the middle, the node would take the part that it has for the whole."""
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    site.run()
    assert (site.node.expected, len(site.orthanc.sent)) == ([3], 1)


def test_what_was_handed_over_is_not_sent_again_after_a_restart(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.hand_over()
    site.restart()
    site.becomes_stable(ONE)
    site.run()
    assert len(site.orthanc.sent) == 1


def test_a_series_whose_event_was_lost_is_found_after_the_restart(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.run()
    assert site.orthanc.sent == [["i0", "i1", "i2"]]


def test_a_series_that_was_being_sent_when_orthanc_was_killed_is_sent_again(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    site.run()
    site.restart()
    site.run()
    assert len(site.orthanc.sent) == 2


def test_who_was_sending_when_orthanc_was_killed_gets_time_to_go_on(site: Site) -> None:
    """Orthanc calls every series stable once it has started, those that were just arriving too."""
    site.orthanc.content[ONE] = series()
    site.restart(pause=0.0)
    site.run()
    assert site.orthanc.sent == []
    site.orthanc.content[ONE].instances["sent after the start"] = CT
    site.now += 61
    site.run()
    assert [len(each) for each in site.orthanc.sent] == [4]


def test_late_images_make_a_series_go_again_whole(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.hand_over()
    site.orthanc.content[ONE].instances["late"] = CT
    site.hand_over()
    assert site.orthanc.sent[1:] == [["i0", "i1", "i2", "late"]]
    assert site.note()["images"] == 4


def test_images_that_come_while_a_series_is_sent_make_it_go_again(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    site.run()
    site.orthanc.content[ONE].instances["late"] = CT
    site.becomes_stable(ONE)
    site.orthanc.end_job("Success")
    site.run()
    assert len(site.orthanc.sent) == 2


@pytest.mark.parametrize(
    "left_out",
    [series(modality="SEG"), series(modality="RTSTRUCT"), series(modality="US"), series(manufacturer=MANUFACTURER)],
    ids=["segmentation", "structure set", "ultrasound", "a CT that the node made"],
)
def test_what_is_not_for_the_node_never_goes(site: Site, left_out: FakeSeries) -> None:
    site.orthanc.content[ONE] = left_out
    site.becomes_stable(ONE)
    site.run()
    assert site.orthanc.sent == []
    assert site.bridge.handover is not None
    standing = site.bridge.handover.standing(ONE)
    assert standing is not None
    assert standing.state == "not for the node"


def test_only_images_of_the_series_go(site: Site) -> None:
    site.orthanc.content[ONE] = FakeSeries({"image": CT, "report": SECONDARY_CAPTURE}, last_update=2e6)
    site.hand_over()
    assert site.orthanc.sent == [["image"]]


def test_nothing_is_sent_while_nobody_listens_and_everything_once_somebody_does(site: Site) -> None:
    site.orthanc.content[ONE], site.orthanc.content[OTHER] = series(), series(prefix="o")
    site.node.listens = False
    for orthanc_id in (ONE, OTHER):
        site.becomes_stable(orthanc_id)
    for _ in range(50):
        site.run(2)
        site.now += 7 * 86400 / 50
    assert site.orthanc.sent == []
    assert site.bridge.handover is not None
    assert site.bridge.handover.summary()["outage"] == "nobody listens on node port 11112"
    site.node.listens = True
    site.now += 11  # a week away costs no longer pause than a second
    site.run()
    site.orthanc.end_job("Success")
    site.run()
    site.orthanc.end_job("Success")
    site.run()
    assert len(site.orthanc.sent) == 2
    assert site.bridge.handover.summary()["outage"] == ""


def test_a_series_that_is_refused_is_tried_for_ever_with_pauses_and_says_why(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    for pause in (10, 100, 100, 100):
        site.run()
        site.orthanc.end_job("Failure", "DIMSE status 0xa700")
        sent = len(site.orthanc.sent)
        site.run()
        site.now += pause - 1
        site.run()
        assert len(site.orthanc.sent) == sent
        site.now += 2
    standing = _standing(site)
    assert (standing["state"], "0xa700" in standing["reason"]) == ("delayed", True)
    site.run()
    assert len(site.orthanc.sent) == 5


def test_a_refused_series_does_not_hold_the_others_up(site: Site) -> None:
    site.orthanc.content[ONE], site.orthanc.content[OTHER] = series(), series(prefix="o")
    site.becomes_stable(ONE)
    site.run()
    site.orthanc.end_job("Failure", "refused")
    site.becomes_stable(OTHER)
    site.run()
    site.now += 6
    site.run()
    assert site.orthanc.sent[-1] == ["o0", "o1", "o2"]


def test_the_end_of_a_job_that_orthanc_forgets_at_once_is_taken_from_its_event(site: Site) -> None:
    """``JobsHistorySize`` may be 0."""
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    site.run()
    site.orthanc.jobs.clear()
    site.bridge.on_change(EVENTS.JOB_SUCCESS, 4, "job-1")
    site.run()
    assert site.note()["state"] == "handed over"


def test_a_job_of_which_nothing_is_heard_any_more_is_done_again(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    site.run()
    site.orthanc.jobs.clear()
    site.now += GONE_SECONDS + 1
    site.run()
    site.now += 11
    site.run()
    assert len(site.orthanc.sent) == 2


def test_what_was_there_before_the_plugin_is_left_alone_until_a_person_asks(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.orthanc.properties.clear()
    site.restart()
    site.run()
    assert (site.orthanc.sent, _standing(site)["state"]) == ([], "left alone")
    assert _call(site, PATTERNS[2], "POST", ONE)[0] == 200
    site.run()
    site.orthanc.end_job("Success")
    site.run()
    assert (len(site.orthanc.sent), _standing(site)["state"]) == (1, "handed over")


def test_what_comes_within_the_second_of_the_first_start_counts(site: Site) -> None:
    site.orthanc.properties.clear()
    site.now = 2e6 + 0.9
    site.restart()
    site.orthanc.content[ONE] = series()  # dated 2e6
    site.run()
    assert len(site.orthanc.sent) == 1


def test_all_of_a_large_archive_goes_when_wanted_but_no_faster_than_the_node_works() -> None:
    site = Site(BridgeSettings(since="always", series_in_flight=4, stable_seconds=60, node_url="http://node"))
    for index in range(250):
        site.orthanc.content[f"{index:08x}-old"] = series(prefix=f"{index}-")
    site.node.unfinished_series = 4
    site.run(300)
    assert site.orthanc.sent == []
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    site.now += 10
    site.run()
    assert site.orthanc.sent == [["i0", "i1", "i2"]], "what has just arrived does not wait"
    site.orthanc.end_job("Success")
    site.node.unfinished_series = 3
    for _ in range(300):
        site.now += 10
        site.run(3)
        site.orthanc.end_job("Success")
    assert len(site.orthanc.sent) == 251


def test_a_person_has_a_series_run_again_whatever_orthanc_does_meanwhile(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.hand_over()
    assert _call(site, PATTERNS[2], "POST", ONE)[0] == 200
    site.restart()
    site.run()
    site.orthanc.end_job("Success")
    site.run()
    assert (len(site.orthanc.sent), len(site.node.rerun_series)) == (2, 1)
    assert _standing(site)["state"] == "handed over"


def test_metadata_of_somebody_else_is_not_written_over(site: Site) -> None:
    site.orthanc.content[ONE] = series(metadata={SETTINGS.metadata: "reviewed by Dr X"})
    site.becomes_stable(ONE)
    site.run()
    assert site.orthanc.content[ONE].metadata == {SETTINGS.metadata: "reviewed by Dr X"}
    assert "belongs to somebody else" in _standing(site)["reason"]


def test_a_series_of_which_orthanc_does_not_know_when_it_came_holds_no_other_up(site: Site) -> None:
    """As an early release of Orthanc left them."""
    site.orthanc.content[ONE], site.orthanc.content[OTHER] = series(), series("o")
    site.orthanc.undated = {ONE}
    site.run()
    assert site.orthanc.sent == [["o0", "o1", "o2"]]


def test_a_series_that_is_deleted_is_forgotten(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    site.orthanc.content.clear()
    site.run()
    assert site.bridge.handover is not None
    assert site.bridge.handover.summary()["waiting"] == 0


def test_a_series_that_is_deleted_while_it_is_sent_is_forgotten(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.becomes_stable(ONE)
    site.run()
    site.orthanc.content.clear()
    site.orthanc.end_job("Success")
    for _ in range(3):
        site.run()
        site.now += 101
    assert site.bridge.handover is not None
    assert site.bridge.handover.summary() == {"waiting": 0, "delayed": {}, "handing_over": None, "outage": ""}


def test_the_state_at_the_node_is_what_a_person_reads(site: Site) -> None:
    site.orthanc.content[ONE] = series()
    site.hand_over()
    site.node.state = {"state": "held", "reason": "a gap between slices 4 and 6"}
    assert _standing(site)["text"] == "held: a gap between slices 4 and 6"


def test_routes_answer_what_they_are_for(site: Site) -> None:
    site.orthanc.content[ONE] = series(modality="SEG")
    assert _call(site, PATTERNS[1], "GET", OTHER)[0] == 404
    assert _call(site, PATTERNS[2], "POST", ONE)[0] == 409
    assert _call(site, PATTERNS[2], "GET", ONE)[0] == 405
    assert _call(site, PATTERNS[0], "GET")[0] == 200


def test_the_thread_begins_and_ends_with_orthanc() -> None:
    orthanc = FakeOrthanc({"StableAge": 1})
    heard: list[int] = []
    bridge = install(orthanc, also=lambda change, _level, _resource: heard.append(change))  # type: ignore[arg-type]
    orthanc.change(EVENTS.ORTHANC_STARTED, 4, "")
    assert bridge._thread is not None
    assert bridge._thread.is_alive()
    orthanc.change(EVENTS.ORTHANC_STOPPED, 4, "")
    assert not bridge._thread.is_alive()
    assert heard == [EVENTS.ORTHANC_STARTED, EVENTS.ORTHANC_STOPPED]
    assert "dicom-node-rerun" in orthanc.explorer


class _Output:
    status, text = 200, ""

    def AnswerBuffer(self, content: str, _media_type: str) -> None:
        self.text = content

    def SendHttpStatusCode(self, status: int) -> None:
        self.status = status

    def SendMethodNotAllowed(self, _allowed: str) -> None:
        self.status = 405


def _call(site: Site, pattern: str, method: str, *groups: str) -> tuple[int, Any]:
    routes, output = Routes(site.bridge), _Output()
    answer = dict(zip(PATTERNS, (routes.overview, routes.series, routes.rerun), strict=True))[pattern]
    answer(output, "", method=method, groups=groups)
    return output.status, json.loads(output.text) if output.text else None


def _standing(site: Site) -> dict[str, Any]:
    status, document = _call(site, PATTERNS[1], "GET", ONE)
    assert status == 200
    return dict(document)
