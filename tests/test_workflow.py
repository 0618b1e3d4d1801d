"""The steps of a case for several destinations: what one of them cannot get keeps nothing from the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from dicom_node.errors import InputRefused, ResultOutdated
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile
from dicom_node.results.delineation import Delineation, delineate
from dicom_node.segment.inference_process import InferenceProcess
from dicom_node.workflow import CaseFiles, CaseWork
from tests.results.sources import labels_of, phantom, volume_of

CONTOURS, WHOLE = Profile(results=("RTSTRUCT",), external=False), Profile(external=False)
UNNAMABLE = Profile(results=("RTSTRUCT",), external=False, irregular_contours=True, name_length=1)


class PhantomWork(CaseWork):
    """Work on a case whose volume and labels are a tilted phantom's: no contours are made of it."""

    def _volume(self) -> Volume:
        return volume_of(phantom("tilted"))

    def _delineation(self, outline: npt.NDArray[np.uint8] | None) -> Delineation:
        return delineate(self._volume(), labels_of(phantom("tilted")), outline)


def work(folder: Path, *profiles: Profile, facts: dict[str, Any] | None = None) -> CaseWork:
    inference = cast(InferenceProcess, None)
    return PhantomWork("case", "torso", 1.7e9, (), CaseFiles(folder), inference, 1.0, profiles, facts or {})


def test_a_profile_that_cannot_be_served_keeps_nothing_from_the_others(tmp_path: Path) -> None:
    facts = work(tmp_path, CONTOURS, WHOLE).encode()
    assert [(result["kind"], result["profile"]) for result in facts["results"]] == [("SEG", WHOLE.identity)]
    assert list(facts["refused"]) == [CONTOURS.identity]
    assert "tilted" in facts["refused"][CONTOURS.identity]
    assert work(tmp_path, CONTOURS, WHOLE, facts=facts).verify()["verified"] == {"SEG": 1.0}


def test_a_profile_whose_names_do_not_fit_is_refused_by_itself(tmp_path: Path) -> None:
    facts = work(tmp_path, UNNAMABLE, WHOLE).encode()
    assert [(result["kind"], result["profile"]) for result in facts["results"]] == [("SEG", WHOLE.identity)]
    assert "name_length = 1" in facts["refused"][UNNAMABLE.identity]


@pytest.mark.parametrize("profiles", [(CONTOURS,), (CONTOURS, Profile(structures=("Patella",), external=False))])
def test_what_cannot_be_made_for_anyone_is_refused(profiles: tuple[Profile, ...], tmp_path: Path) -> None:
    with pytest.raises(InputRefused):
        work(tmp_path, *profiles).encode()


def test_encoding_again_takes_back_what_was_verified_before(tmp_path: Path) -> None:
    facts = {"verified": {"SEG": 1.0}} | work(tmp_path, WHOLE).encode()
    assert not facts["verified"]


def test_results_of_an_earlier_version_are_made_anew(tmp_path: Path) -> None:
    facts = work(tmp_path, WHOLE).encode()
    for lacking in ("profile", "made_by"):
        results = [{key: value for key, value in item.items() if key != lacking} for item in facts["results"]]
        with pytest.raises(ResultOutdated):
            work(tmp_path, WHOLE, facts={**facts, "results": results}).verify()
    facts.pop("outline_sha256")
    with pytest.raises(ResultOutdated) as caught:
        replace(work(tmp_path, WHOLE), facts=facts).verify()
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("confidence", "entropy", "said"),
    [(0.9, 1.2, []), (0.4, 1.2, ["mean probability 0.40"]), (0.9, 1.6, ["mean entropy 1.60 bits"])],
)
def test_a_structure_the_network_is_not_sure_of_is_warned_of(
    confidence: float, entropy: float, said: list[str], tmp_path: Path
) -> None:
    labels = labels_of(phantom("tilted"))
    names = [structure.name for _, structure in labels.present()]
    facts = {"confidence": dict.fromkeys(names, 0.9), "rim_entropy": dict.fromkeys(names, 0.5)}
    facts["confidence"][names[0]], facts["rim_entropy"][names[0]] = confidence, entropy
    found = list(work(tmp_path, facts=facts)._doubts(labels))
    assert [finding.name for finding in found] == names[:1] * len(said)
    assert all(part in finding.text for part, finding in zip(said, found, strict=True))


def test_a_case_segmented_by_an_earlier_version_has_no_entropy_and_no_doubt_of_it(tmp_path: Path) -> None:
    labels = labels_of(phantom("tilted"))
    facts = {"confidence": {structure.name: 0.9 for _, structure in labels.present()}}
    assert not list(work(tmp_path, facts=facts)._doubts(labels))
