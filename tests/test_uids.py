from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID, generate_uid

from dicom_node.errors import InputRefused
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, instance_path, is_uid

ROOT = Path("/spool")
TRICKS = [
    "", ".", "..", "../../etc/passwd", "1.2/../3", "/etc/passwd", "1.2\\3", "1..2", ".1", "1.", "1.2\n", "1.2\0", "1 2",
    "1.2.x", "\u0661.\u0662", "1" * 65, "~", "$HOME", "1.2;rm", "-1.2",
]  # fmt: skip


@pytest.mark.parametrize("text", TRICKS)
def test_what_is_no_uid_never_becomes_a_path(text: str) -> None:
    for place in range(3):
        uids = ["1.2", "1.3", "1.4"]
        uids[place] = text
        with pytest.raises(InputRefused, match="not a UID"):
            instance_path(ROOT, *uids)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_a_path_is_refused_or_lies_three_levels_below_the_root(study: str, series: str, sop: str) -> None:
    try:
        path = instance_path(ROOT, study, series, sop)
    except InputRefused:
        return
    assert path.resolve() == path
    assert path.relative_to(ROOT).parts == (study, series, f"{sop}.dcm")


@given(st.from_regex(r"\A(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){0,8}\Z"))
def test_every_valid_uid_is_one(text: str) -> None:
    assert is_uid(text)


@given(st.text(alphabet="0123456789.", max_size=70))
def test_nothing_is_let_through_but_valid_uids_and_leading_zeros(text: str) -> None:
    stripped = ".".join(part.lstrip("0") or "0" for part in text.split(".")) if text else ""
    if is_uid(text):
        assert UID(stripped).is_valid
    elif len(text) <= 64 and "" not in text.split("."):
        pytest.fail(f"{text} was turned away")


def test_generated_uids_are_uids() -> None:
    assert is_uid(generate_uid())
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid
