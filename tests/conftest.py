"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TEST_DATA_VARIABLE = "DICOM_NODE_TEST_DATA"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real CT, MR and label maps; where it is absent the tests that need it are skipped."""
    folder = os.environ.get(TEST_DATA_VARIABLE)
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"{TEST_DATA_VARIABLE} does not name a folder with real series")
    return Path(folder)
