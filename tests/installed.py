"""What tests need of this machine: without it they are skipped, or fail where everything has to be there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED_VARIABLE = "DICOM_NODE_JUDGES_REQUIRED"
"""Where it is set (deploy/test does), what is not installed is a failure."""
REPOSITORY = Path(__file__).resolve().parent.parent
DEPLOY = REPOSITORY / "deploy"


def missing(message: str) -> NoReturn:
    """Leave the test, which cannot run: skipped, or failed where everything has to be there."""
    if os.environ.get(REQUIRED_VARIABLE):
        pytest.fail(message)
    pytest.skip(message)


def required(path: Path, source: str) -> Path:
    """A path that is there.

    Args:
        path: Where it belongs.
        source: What brings it.
    """
    if not path.exists():
        missing(f"{path} is not installed ({source})")
    return path


def ohif_folder() -> Path:
    """What ``deploy/ohif/fetch .cache/ohif`` unpacks."""
    return required(REPOSITORY / ".cache/ohif", "deploy/ohif/fetch .cache/ohif")


def chromium() -> Path:
    """Debian's Chromium."""
    return required(Path("/usr/bin/chromium"), "apt: chromium")


def nginx() -> Path:
    """Debian's nginx."""
    return required(Path("/usr/sbin/nginx"), "apt: nginx-light")


def orthanc_dicomweb() -> Path:
    """Orthanc's plugin for DICOMweb."""
    return required(Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"), "apt: orthanc-dicomweb")


def orthanc_python() -> Path:
    """Orthanc's plugin for Python."""
    return required(Path("/usr/share/orthanc/plugins/libOrthancPython.so"), "apt: orthanc-python")
