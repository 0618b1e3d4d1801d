"""What the worker makes of a case's results: it delivers what fits the profiles of now, and makes the rest anew."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import InputRefused
from dicom_node.ledger.cases import Cases
from dicom_node.ledger.database import open_database
from dicom_node.ledger.deliveries import NO_OBJECT
from dicom_node.profiles import load_profiles
from dicom_node.settings import Settings, parse_settings
from dicom_node.worker.worker import Worker
from tests.ledger.test_cases import CASE

PROFILES = {"smooth": {"contours": "smooth"}, "coarse": {"contours": "smooth", "contour_tolerance_mm": 1.0}}
SMOOTH = load_profiles(PROFILES)["smooth"].identity


def settings_of(home: Path, profile: str) -> Settings:
    row = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "profile": profile}
    tables = {"node": {"home": str(home)}, "archive": {"enabled": False}, "destination": [row], "profile": PROFILES}
    return parse_settings(tables, origin="test")


def result_of(path: Path) -> dict[str, Any]:
    path.write_bytes(b"a result")
    return {
        "kind": "SEG",
        "path": str(path),
        "sha256": hashlib.sha256(b"a result").hexdigest(),
        "sop_instance_uid": "1.2.3",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
        "profile": SMOOTH,
        "made_by": {},
    }


@pytest.fixture
def facts(tmp_path: Path) -> dict[str, Any]:
    """What a case notes whose results are ready to be delivered."""
    results = [result_of(tmp_path / "result.dcm")]
    return {"results": results, "verified": {"SEG": 1.0}, "refused": {}, "outline_sha256": None, "warnings": []}


class Bench:
    """A worker over a ledger with one case."""

    def __init__(self, home: Path, profile: str, facts: dict[str, Any]) -> None:
        settings = settings_of(home, profile)
        cases = Cases(open_database(settings.database_url))
        cases.open(replace(CASE, destinations=["pacs"]))
        cases.note_outputs(CASE.case_id, facts, 1.0)
        self.worker = Worker(settings)

    def is_verified(self) -> bool:
        return self.worker._is_verified(CASE.case_id)

    def planned(self) -> list[tuple[str, str, str | None]]:
        return [(item.sop_instance_uid, item.state, item.message) for item in self.worker._planned(CASE.case_id)]


def test_verified_results_of_the_present_profile_are_delivered(tmp_path: Path, facts: dict[str, Any]) -> None:
    bench = Bench(tmp_path, "smooth", facts)
    assert (bench.is_verified(), bench.planned()) == (True, [("1.2.3", "waiting", None)])


def test_results_of_a_profile_that_has_changed_are_made_anew(tmp_path: Path, facts: dict[str, Any]) -> None:
    bench = Bench(tmp_path, "coarse", facts)
    assert (bench.is_verified(), bench.planned()) == (False, [])


@pytest.mark.parametrize("lacking", ["profile", "made_by", "outline_sha256", "warnings", "refused"])
def test_results_of_an_earlier_version_are_made_anew(lacking: str, tmp_path: Path, facts: dict[str, Any]) -> None:
    facts.pop(lacking, None)
    facts["results"][0].pop(lacking, None)
    assert not Bench(tmp_path, "smooth", facts).is_verified()


def test_what_no_object_could_be_made_of_goes_on_record_as_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    bench = Bench(tmp_path, "smooth", {**facts, "results": [], "refused": {SMOOTH: "tilted"}})
    assert (bench.is_verified(), bench.planned()) == (True, [(NO_OBJECT, "refused", "tilted")])


def test_a_case_without_all_its_images_is_never_segmented(tmp_path: Path, facts: dict[str, Any]) -> None:
    bench = Bench(tmp_path, "smooth", facts)
    case = Cases(open_database(settings_of(tmp_path, "smooth").database_url)).get(CASE.case_id)
    with pytest.raises(InputRefused, match="1 of 1 images are not on record any more"):
        bench.worker._work(case)
