"""The supervisor: what it restarts, and what it gives up for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from dicom_node import serve
from dicom_node.errors import SettingsError
from dicom_node.settings import Settings, parse_settings
from tests.peers import wait_until


class Child:
    """A process that has ended with a code, or goes on."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        """It ends at once."""

    def wait(self, timeout: float | None = None) -> int:
        return 0


class Processes:
    """What stands for the node's processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, codes: dict[str, int | None]) -> None:
        self.codes = codes
        self.started: list[str] = []
        monkeypatch.setattr(serve, "_start", self._start)
        monkeypatch.setattr(serve, "RESTART_SECONDS", 0.004)
        monkeypatch.setattr(serve, "REST_SECONDS", 0.1)

    def _start(self, command: Sequence[str], _config: Path | None) -> Child:
        self.started.append(command[0])
        return Child(self.codes.get(command[0]))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tables = {
        "node": {"home": str(tmp_path)},
        "archive": {"enabled": False},
        "audit": {"file": str(tmp_path / "trail")},
    }
    return parse_settings(tables, origin="test")


def test_a_process_that_keeps_refusing_ends_the_node(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    processes = Processes(monkeypatch, {"work": SettingsError.exit_code})
    with pytest.raises(SettingsError, match="dicom-node work"):
        serve.supervise(settings, None, threading.Event())
    assert processes.started.count("work") == serve.REFUSALS


def test_an_audit_trail_that_keeps_refusing_holds_no_reception_up(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    processes, stop = Processes(monkeypatch, {"audit": SettingsError.exit_code}), threading.Event()
    node = threading.Thread(target=serve.supervise, args=(settings, None, stop))
    node.start()
    try:
        assert wait_until(lambda: processes.started.count("audit") >= serve.REFUSALS + 3)
        assert node.is_alive()
        assert processes.started.count("listen") == 1
    finally:
        stop.set()
        node.join(10)
    assert processes.started.count("audit") < 20  # it rests in between


def test_an_audit_trail_on_its_own_that_keeps_refusing_ends(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    Processes(monkeypatch, {"audit": SettingsError.exit_code})
    with pytest.raises(SettingsError, match="dicom-node audit"):
        serve.supervise(settings, None, threading.Event(), roles=["audit"])


def test_a_process_that_was_killed_is_restarted(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    processes, stop = Processes(monkeypatch, {"listen": -9}), threading.Event()
    node = threading.Thread(target=serve.supervise, args=(settings, None, stop))
    node.start()
    try:
        assert wait_until(lambda: processes.started.count("listen") >= serve.REFUSALS + 3)
        processes.codes.clear()
    finally:
        stop.set()
        node.join(10)
    assert not node.is_alive()
