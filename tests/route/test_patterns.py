"""Regular expressions of the settings: what they find, and that none of them runs away."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dicom_node.route.patterns import MAX_PATTERN, MAX_SEARCHED, compile_pattern


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("knee|genou|knie", "MR Kniegelenk links"),
        (r"^t1.*(fs|dixon)", "T1_vibe_dixon"),
        (r"\d{4}-\d{2}-\d{2}", "on 2024-01-31"),
        (r"[a|*+)(]", "x*"),
        (r"(?:abdo(?:men)?)", "ABDOMEN"),
        (r"\(a+\)", "(aaa)"),
    ],
)
def test_finds_whatever_the_case_of_the_letters(source: str, text: str) -> None:
    assert compile_pattern(source).found_in(text)


@pytest.mark.parametrize(
    "source",
    [
        "(a+)+$",
        "(a|a)*b",
        "((a?){9})+",
        "(x+x+)+y",
        ".*.*.*.*x",
        "a?" * 30,
        "(a|a)" * 30,
        "(?:a*)*",
        "(a{2,}){3}",
        "a" * (MAX_PATTERN + 1),
    ],
)
def test_refuses_shapes_that_can_take_for_ever(source: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        compile_pattern(source)


@pytest.mark.parametrize("source", ["(", "[a", "*a", "(?P<1>a)", "a{5,2}"])
def test_refuses_what_is_no_regular_expression(source: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        compile_pattern(source)


def test_searches_the_first_characters_only() -> None:
    assert not compile_pattern("knee").found_in("x" * MAX_SEARCHED + "knee")


@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="aab()|*+?.{2,}[]^$\\d:", max_size=40), st.sampled_from(["a" * 64 + "!", "ab" * 32, "a1" * 32]))
def test_every_accepted_pattern_answers_soon(source: str, text: str) -> None:
    try:
        re.compile(source)
        pattern = compile_pattern(source)
    except (ValueError, re.error):
        assume(False)
    start = time.process_time()
    pattern.found_in(text)
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize("source", [".*.*.*!{2}", "(a|ab)(c|bcd)(d*)", "a*a*a*b" + "(a|b)" * 5, "a?" * 5 + ".*.*.*xx"])
def test_the_worst_accepted_shapes_answer_soon(source: str) -> None:
    pattern = compile_pattern(source)
    start = time.process_time()
    pattern.found_in("a" * MAX_SEARCHED)
    assert time.process_time() - start < 2.0
