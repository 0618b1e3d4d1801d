"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
