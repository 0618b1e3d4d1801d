"""node.toml: what is right is taken as written, what is wrong is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import SettingsError
from dicom_node.settings import load_settings, parse_settings

EXAMPLE = """
[node]
ae_title = "DICOM_NODE"
bind = "0.0.0.0"
port = 11112
home = "node-data"
quiet_seconds = 20

[[peer]]
ae_title = "CT_SCANNER"
address = "10.1.0.0/16"

[[destination]]
name = "pacs"
ae_title = "PACS"
host = "10.1.2.3"
port = 104
profile = "default"

[[rule]]
name = "abdomen CT"
when = { Modality = "CT", BodyPartExamined = ["ABDOMEN", "PELVIS", "CHEST"] }
card = "torso"
to = ["pacs"]
priority = "routine"
"""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DICOM_NODE_CONFIG", raising=False)
    monkeypatch.delenv("DICOM_NODE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_documented_example_is_valid(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(EXAMPLE)
    settings = load_settings()
    assert settings.destination[0].host == "10.1.2.3"
    assert settings.rule[0].to == ("pacs",)


def test_a_file_that_an_editor_of_windows_saved_is_valid(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes(b"\xef\xbb\xbf" + EXAMPLE.replace("\n", "\r\n").encode())
    assert load_settings().node.quiet_seconds == 20


def test_without_a_file_only_this_machine_may_send() -> None:
    assert {peer.address for peer in load_settings().peers} == {"127.0.0.0/8", "::1/128"}


def test_without_destinations_results_go_to_the_embedded_archive() -> None:
    assert load_settings().default_destinations == ("archive",)


def test_home_comes_from_the_environment_unless_the_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE_HOME", "/var/lib/node")
    assert load_settings().node.home == Path("/var/lib/node")
    assert parse_settings({"node": {"home": "here"}}, origin="test").node.home == Path("here")


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"node": {"aetitle": "X"}}, 'unknown key "node.aetitle"'),
        ({"nodes": {}}, 'unknown key "nodes"'),
        ({"node": {"port": "104"}}, "node.port"),
        ({"node": {"port": 0}}, "node.port"),
        ({"node": {"ae_title": "SEVENTEEN_LETTERS"}}, "node.ae_title"),
        ({"peer": [{"ae_title": "A", "address": "10.1.0.0/99"}]}, "peer.0.address"),
        ({"rule": [{"name": "r", "to": ["nowhere"]}]}, "nowhere"),
        ({"destination": [{"name": "archive", "ae_title": "A", "host": "h", "port": 1}]}, "reserved"),
        ({"node": "x"}, "node"),
        ({"archive": {"port": 11112}}, "cannot both listen"),
        ({"audit": {}}, "set file, syslog or both"),
        ({"audit": {"syslog": "http://siem:514"}}, "expected tls://host:port"),
        ({"audit": {"syslog": "udp://siem:70000"}}, "audit.syslog"),
        ({"audit": {"syslog": "tls://siem"}}, "neither"),
        (
            {"destination": [{"name": "d", "ae_title": "A", "host": "h", "port": 1, "retry_seconds": [-5]}]},
            "retry_seconds",
        ),
        ({"node": {"quiet_seconds": float("inf")}}, "node.quiet_seconds"),
        ({"destination": [{"name": "d" * 65, "ae_title": "A", "host": "h", "port": 1}]}, "destination.0.name"),
        (
            {"destination": [{"name": "d", "ae_title": "A", "host": "h", "port": 1, "timeout_seconds": float("inf")}]},
            "timeout_seconds",
        ),
        ({"monitoring": {"token": "sixteen letters\n!"}}, "monitoring.token"),
        ({"monitoring": {"port": 11112}}, "[monitoring] port 11112 is taken"),
        ({"monitoring": {"port": 11113, "bind": "0.0.0.0"}}, "[monitoring] port 11113 is taken"),
    ],
)
def test_what_is_wrong_is_named(tables: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        parse_settings(tables, origin="test")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such configuration file"):
        load_settings(tmp_path / "none.toml")


def test_a_file_that_is_not_toml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[node\n")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_settings()


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("udp://siem.example", ("udp", "siem.example", 514)),
        ("tcp://10.1.2.3", ("tcp", "10.1.2.3", 601)),
        ("tls://[fe80::1]", ("tls", "fe80::1", 6514)),
        ("tls://siem:7000", ("tls", "siem", 7000)),
    ],
)
def test_a_syslog_server_has_the_port_of_its_transport(url: str, server: tuple[str, str, int]) -> None:
    shown = {"certificate": "c", "key": "k", "authorities": "a"}
    audit = parse_settings({"tls": shown, "audit": {"syslog": url}}, origin="test").audit
    assert audit is not None
    found = audit.syslog_server
    assert found is not None
    assert (found.scheme, found.hostname, found.port) == server
    assert audit.credentials is not None
