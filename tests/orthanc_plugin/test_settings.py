"""The section DicomNode of Orthanc's configuration."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from dicom_node.errors import SettingsError
from dicom_node.orthanc_bridge.settings import read_settings
from tests.orthanc_plugin.server import example_configuration


def test_the_shipped_configuration_says_the_defaults() -> None:
    shipped = example_configuration()
    told = read_settings(shipped)
    section = {key: shipped["DicomNode"][key] for key in ("NodeUrl", "Token")}
    assert told == read_settings({"StableAge": shipped["StableAge"], "DicomNode": section})


def test_a_date_begins_at_midnight() -> None:
    since = read_settings({"DicomNode": {"Since": "2026-01-31"}}).since_seconds(0.0)
    assert abs(since - 1769817600) <= 14 * 3600  # whatever the time zone


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"Modalty": "x"}, 'unknown key "DicomNode.Modalty"'),
        ({"Since": "yesterday"}, '"DicomNode.Since" has to be'),
        ({"Metadata": 12}, '"DicomNode.Metadata" has to be a number, 1024 to 65535'),
        ({"RetrySeconds": []}, '"DicomNode.RetrySeconds" has to be'),
        ({"SeriesInFlight": 0}, '"DicomNode.SeriesInFlight" has to be'),
        ({"NodeUrl": "file:///etc/passwd"}, '"DicomNode.NodeUrl" has to be'),
        ({"Token": "secret"}, '"DicomNode.Token" needs'),
        ({"Token": "secret\n"}, '"DicomNode.Token" has to be'),
        ({"Token": "sécret"}, '"DicomNode.Token" has to be'),
    ],
)
def test_what_is_wrong_is_named(section: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as caught:
        read_settings({"DicomNode": section})
    assert "cret" not in str(caught.value)


def test_the_bridge_needs_the_standard_library_alone() -> None:
    """Orthanc's Python is not the node's: none of the node's requirements may be asked for."""
    code = (
        "import sys; before = set(sys.modules); import dicom_node.orthanc_bridge;"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dicom_node']"
