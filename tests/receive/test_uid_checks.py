"""Checks of UIDs that are remembered find what they found before, and hold no more memory than a list of UIDs."""

from __future__ import annotations

import pytest
from pydicom import valuerep

from dicom_node.receive.uid_checks import remembering

VALUES = ["1.2.840.10008.1.2", "1.02", "x", "", "1." * 40, 5, b"1.2", b"x", "1.2\n"]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_remembered_check_finds_what_the_check_finds(value: object) -> None:
    check = valuerep.validate_length_and_type_and_regex
    remembered = remembering(check)
    assert [remembered("UI", value) for _ in range(3)] == [check("UI", value)] * 3


def test_a_uid_is_checked_once_and_what_is_too_long_for_one_each_time() -> None:
    checked: list[str] = []

    def check(value: str) -> tuple[bool, str]:
        checked.append(value)
        return True, ""

    remembered = remembering(check)
    for value in ("1.2.3", "1.2.3", "1" * 65, "1" * 65):
        remembered(value)
    assert checked == ["1.2.3", "1" * 65, "1" * 65]
