"""Machines that share a database have to share the home too: another path, or another folder, is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.errors import SettingsError
from dicom_node.ledger.home import MARK, require_same_home


def test_the_same_home_is_taken_again(ledger: sa.Engine, tmp_path: Path) -> None:
    require_same_home(ledger, tmp_path / "home")
    require_same_home(ledger, tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == [MARK]


def test_a_share_that_is_mounted_elsewhere_is_refused(ledger: sa.Engine, tmp_path: Path) -> None:
    require_same_home(ledger, tmp_path / "home")
    shutil.copytree(tmp_path / "home", tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="at the same path on every machine"):
        require_same_home(ledger, tmp_path / "elsewhere")


def test_a_share_that_is_not_mounted_is_refused(ledger: sa.Engine, tmp_path: Path) -> None:
    require_same_home(ledger, tmp_path / "home")
    (tmp_path / "home").rename(tmp_path / "the share")
    with pytest.raises(SettingsError, match="is not the folder"):
        require_same_home(ledger, tmp_path / "home")
