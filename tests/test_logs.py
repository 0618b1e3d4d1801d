"""Log events: facts and identifiers, never what a data set says about a patient."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from dicom_node.logs import configure_logs, get_logger


@pytest.fixture(autouse=True)
def _own_configuration() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_an_unexpected_exception_is_logged_without_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(json=True)
    try:
        int("Doe^Jane")
    except ValueError:
        get_logger("test").exception("unexpected error", case="abc")
    written = capsys.readouterr().err
    event = json.loads(written)
    assert "Doe" not in written
    assert (event["error"], event["case"]) == ("ValueError", "abc")
    assert "test_logs.py" in event["frames"][-1]


def test_keys_that_hold_identity_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(json=True)
    get_logger("test").info("received", PatientName="Doe^Jane", series="1.2.3")
    written = capsys.readouterr().err
    assert "Doe" not in written
    assert json.loads(written)["series"] == "1.2.3"
