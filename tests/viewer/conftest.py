"""One archive, one page of the viewer for all tests of this room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.viewer.ohif import Viewer, viewer
from tests.viewer.servers import archive_with_viewer
from tests.viewer.studies import CT, MR, Study, write_study

PICTURES_VARIABLE = "DICOM_NODE_PICTURES"
"""Folder that the screenshots are kept in; a temporary one where it is not set."""


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    """The studies in the archive, by modality."""
    folder = tmp_path_factory.mktemp("studies")
    return {name: write_study(subject, folder / name) for name, subject in (("CT", CT), ("MR", MR))}


@pytest.fixture(scope="session")
def ohif(studies: dict[str, Study], chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """OHIF in a browser, with both studies."""
    folders = [study.folder for study in studies.values()]
    with (
        archive_with_viewer(tmp_path_factory.mktemp("servers"), *folders) as address,
        viewer(chromium, address) as opened,
    ):
        yield opened


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept."""
    folder = Path(os.environ.get(PICTURES_VARIABLE) or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
