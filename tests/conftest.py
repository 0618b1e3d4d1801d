"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from playwright.sync_api import Browser

from dicom_node.ledger.database import open_database
from dicom_node.settings import parse_settings
from tests import postgres
from tests.chromium import running_chromium
from tests.installed import missing

# How long an example takes says more about the machine than about the code. In CI the same examples run every time, so
# that a change is judged by what it changed; elsewhere new ones are tried on every run.
settings.register_profile("everywhere", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "everywhere")

TEST_DATA_VARIABLE = "DICOM_NODE_TEST_DATA"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real CT, MR and label maps; where it is absent the tests that need it are skipped."""
    folder = os.environ.get(TEST_DATA_VARIABLE)
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"{TEST_DATA_VARIABLE} does not name a folder with real series")
    return Path(folder)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser of this session's own."""
    with running_chromium() as browser:
        yield browser


BACK_ENDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.peer))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.Cluster]:
    """A PostgreSQL server of this session's own."""
    if not postgres.is_installed():
        missing("PostgreSQL is not installed (apt: postgresql)")
    with postgres.cluster() as cluster:
        yield cluster


@pytest.fixture(params=BACK_ENDS)
def database_setting(request: pytest.FixtureRequest) -> str | None:
    """``[node] database`` of an empty database, once for each back end; None stands for SQLite."""
    if request.param == "sqlite":
        return None
    cluster: postgres.Cluster = request.getfixturevalue("postgresql")
    return cluster.emptied_database()


@pytest.fixture
def ledger(database_setting: str | None, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty ledger, once on each back end."""
    database = {} if database_setting is None else {"database": database_setting}
    opened = open_database(parse_settings({"node": {"home": str(tmp_path), **database}}, origin="test").database_url)
    yield opened
    opened.dispose()
