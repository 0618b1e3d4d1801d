"""From the rules of the settings to a decision and its trace."""

from __future__ import annotations

import io
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from dicom_node.errors import InputRefused, SettingsError
from dicom_node.route.rules import FALLBACK, Router, RuleTrace, compile_rules
from dicom_node.settings import parse_settings
from models.card import Card

RULES = """
[[destination]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104

[[rule]]
name = "thin abdomen CT"
when = { Modality = "CT", BodyPartExamined = ["ABDOMEN", "PELVIS"], SliceThickness = { less = 5 } }
card = "torso"
to = ["pacs", "sender"]
priority = "urgent"

[[rule]]
name = "emergency room"
when = { SourceApplicationEntityTitle = "ER_CT" }
priority = "urgent"

[[rule]]
name = "knees"
when = { or = [{ BodyPartExamined = "KNEE" }, { SeriesDescription = { regex = "gonarthro" } }] }
card = "knee"
to = ["sender"]
"""


def card(name: str, *modalities: str) -> Card:
    return Card(
        name=name,
        version="1",
        anatomy=name,
        modalities=modalities or ("CT", "MR"),
        structures=("Liver",),
        spacing_mm=(4.0, 4.0, 4.0),
        window=(16, 16, 16),
        weights=Path("none.safetensors"),
        weights_sha256="",
        document={},
    )


CARDS = {"torso": card("torso"), "knee": card("knee")}


def router(text: str = RULES, cards: dict[str, Card] | None = None) -> Router:
    return compile_rules(parse_settings(tomllib.loads(text), origin="test"), CARDS if cards is None else cards)


def header(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_the_first_rule_that_matches_wins() -> None:
    decision = router().decide(header(Modality="CT", BodyPartExamined="ABDOMEN", SliceThickness="2"), "ER_CT")
    assert decision.rule == "thin abdomen CT"
    assert decision.card == "torso"
    assert decision.destinations == ("pacs", "sender")
    assert decision.priority == "urgent"
    assert decision.card_reason == 'rule "thin abdomen CT" names it'
    assert [trace.rule for trace in decision.trace] == ["thin abdomen CT"]


def test_the_trace_says_why_each_earlier_rule_did_not_match() -> None:
    decision = router().decide(header(Modality="CT", BodyPartExamined="KNEE", SliceThickness="2"), "CT_1")
    assert decision.trace == (
        RuleTrace("thin abdomen CT", False, why_not='BodyPartExamined is "KNEE", not: one of "ABDOMEN", "PELVIS"'),
        RuleTrace("emergency room", False, why_not='SourceApplicationEntityTitle is "CT_1", not: "ER_CT"'),
        RuleTrace("knees", True, why='BodyPartExamined is "KNEE", as asked: "KNEE"'),
    )
    assert decision.destinations == ("sender",)


def test_a_rule_without_card_and_destinations_takes_what_fits_and_the_defaults() -> None:
    decision = router().decide(header(Modality="CT", BodyPartExamined="KNEE"), "ER_CT")
    assert (decision.rule, decision.card, decision.destinations) == ("emergency room", "knee", ("pacs",))


def test_the_fallback_takes_what_no_rule_takes() -> None:
    decision = router().decide(header(Modality="MR", BodyPartExamined="LIVER"))
    assert (decision.rule, decision.card, decision.destinations, decision.priority) == (
        FALLBACK,
        "torso",
        ("pacs",),
        "routine",
    )
    assert decision.trace[-1] == RuleTrace(FALLBACK, True, why="Modality is MR")
    assert len(decision.trace) == 4


def test_without_any_settings_results_go_to_the_embedded_archive() -> None:
    decision = router("").decide(header(Modality="CT"))
    assert (decision.rule, decision.card, decision.destinations) == (FALLBACK, "torso", ("archive",))


FIT = [
    ({"BodyPartExamined": "KNEE"}, "knee"),
    ({"BodyPartExamined": "LEG", "ProtocolName": "GENOU_G"}, "knee"),
    ({"SeriesDescription": "Kniegelenk links"}, "knee"),
    ({"StudyDescription": "MRI RT KNEE W/O"}, "knee"),
    ({"AnatomicRegionSequence": [header(CodeMeaning="Knee")]}, "knee"),
    ({"Rows": 384, "Columns": 384, "PixelSpacing": ["0.4167", "0.4167"]}, "knee"),
    ({"Rows": 512, "Columns": 512, "PixelSpacing": ["0.8", "0.8"]}, "torso"),
    ({"Rows": 512, "Columns": 100, "PixelSpacing": ["0.8", "0.8"]}, "torso"),
    ({"BodyPartExamined": "PROSTATE", "Rows": 256, "Columns": 256, "PixelSpacing": ["0.7031", "0.7031"]}, "torso"),
    ({"ProtocolName": "Prostata", "Rows": 256, "Columns": 256, "PixelSpacing": ["0.7031", "0.7031"]}, "torso"),
    ({"BodyPartExamined": "HEAD", "Rows": 256, "Columns": 256, "PixelSpacing": ["0.7", "0.7"]}, "torso"),
    ({"BodyPartExamined": "HIP", "StudyDescription": "HIP KNEE ANKLE"}, "torso"),
    ({"BodyPartExamined": "ABDOMEN"}, "torso"),
    ({}, "torso"),
    (
        {
            "Rows": 100,
            "Columns": 100,
            "SharedFunctionalGroupsSequence": [header(PixelMeasuresSequence=[header(PixelSpacing=["1.5", "1.5"])])],
        },
        "knee",
    ),
]


@pytest.mark.parametrize(("attributes", "expected"), FIT)
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_card_whose_anatomy_fits(attributes: dict[str, Any], expected: str, modality: str) -> None:
    assert router("").decide(header(Modality=modality, **attributes)).card == expected


def test_a_real_prostate_with_a_small_field_of_view_is_no_knee(test_data: Path) -> None:
    with zipfile.ZipFile(next((test_data / "mr_prostate_QIN_ADC").glob("*.zip"))) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dcm"))
        dataset = dcmread(io.BytesIO(archive.read(name)), stop_before_pixels=True)
    decision = router("").decide(dataset)
    assert (decision.card, decision.card_reason) == ("torso", 'BodyPartExamined names "PROSTAT" (torso)')


def test_anatomy_that_no_card_covers_is_said_and_not_discarded() -> None:
    decision = router("").decide(header(Modality="MR", BodyPartExamined="BRAIN"))
    assert decision.card == "torso"
    assert decision.card_reason == 'BodyPartExamined names "BRAIN" (other); no card covers that, so torso by default'


@pytest.mark.parametrize("attributes", [{"Modality": "PT"}, {"Modality": ""}, {}])
def test_other_modalities_are_refused_with_the_reason(attributes: dict[str, Any]) -> None:
    with pytest.raises(InputRefused, match="expected Modality CT or MR"):
        router().decide(header(**attributes))
    assert not router().explain(header(**attributes))[-1].matched


def test_a_card_that_does_not_take_the_modality_is_refused() -> None:
    cards = {"torso": card("torso"), "knee": card("knee", "MR")}
    with pytest.raises(InputRefused, match="takes MR, but its modality is CT"):
        router(cards=cards).decide(header(Modality="CT", BodyPartExamined="KNEE"))
    assert router("", cards).decide(header(Modality="CT", BodyPartExamined="KNEE")).card == "torso"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[rule]]\nname = "a"\ncard = "elbow"', 'no card "elbow"; the cards are knee, torso'),
        ('[[rule]]\nname = "a"\n[[rule]]\nname = "a"', "used twice"),
        (f'[[rule]]\nname = "{FALLBACK}"', "built-in"),
        ('[[rule]]\nname = "a"\nwhen = { Modalty = "CT" }', "did you mean Modality"),
    ],
)
def test_wrong_rules_are_refused_at_the_start(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        router(text)


def test_routing_never_loads_torch() -> None:
    code = "import sys, dicom_node.route.rules; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
