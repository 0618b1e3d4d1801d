"""Secrets are used only where nobody else can read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.secret_file import read_secret


def test_a_private_secret_is_read_without_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("open sesame\n")
    path.chmod(0o600)
    assert read_secret("token_file", path) == "open sesame"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660])
def test_what_others_can_read_is_refused_and_not_quoted(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text("open sesame")
    path.chmod(mode)
    with pytest.raises(SettingsError, match="can be read by others") as caught:
        read_secret("token_file", path)
    assert "sesame" not in caught.value.message


def test_what_is_not_there_or_no_text_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(SettingsError, match="No such file"):
        read_secret("token_file", path)
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="it is no text"):
        read_secret("token_file", path)
