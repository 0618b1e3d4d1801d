"""Where the viewer and the browser lie; tests without them are skipped, or fail where everything has to be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.judges import REQUIRED_VARIABLE

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DEPLOY = REPOSITORY / "deploy"


def ohif_folder() -> Path:
    """What ``deploy/ohif/fetch .cache/ohif`` unpacks."""
    return _required(REPOSITORY / ".cache/ohif", "deploy/ohif/fetch .cache/ohif")


def browser() -> Path:
    """Debian's Chromium."""
    return _required(Path("/usr/bin/chromium"), "apt: chromium")


def nginx() -> Path:
    """Debian's nginx."""
    return _required(Path("/usr/sbin/nginx"), "apt: nginx-light")


def dicom_web() -> Path:
    """Orthanc's plugin for DICOMweb."""
    return _required(Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"), "apt: orthanc-dicomweb")


def _required(path: Path, source: str) -> Path:
    if path.exists():
        return path
    if os.environ.get(REQUIRED_VARIABLE):
        pytest.fail(f"{path} is missing ({source})")
    pytest.skip(f"{path} is not installed ({source})")
