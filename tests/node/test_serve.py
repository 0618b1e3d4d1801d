"""The process group: one node per home, and settings that cannot work end it with the reason."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.settings import load_settings
from tests.certificates import Authority
from tests.running_node import RunningNode, write_config

pytestmark = pytest.mark.peer


def serve(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node", "--config", str(config), "serve"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_port_that_is_taken_ends_the_node_with_the_reason(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with socket.create_server(("127.0.0.1", load_settings(config).node.port)):
        ended = serve(config)
    assert ended.returncode == 2
    assert "cannot listen on 127.0.0.1" in ended.stderr


def test_an_unknown_profile_ends_the_node_with_the_reason(tmp_path: Path) -> None:
    destination = '[[destination]]\nname = "tps"\nae_title = "TPS"\nhost = "127.0.0.1"\nport = 104\nprofile = "x"\n'
    ended = serve(write_config(tmp_path, extra=destination))
    assert ended.returncode == 2
    assert 'no profile "x"' in ended.stderr


def test_a_key_that_others_can_read_ends_the_node_with_the_reason(tmp_path: Path) -> None:
    ours = Authority(tmp_path / "authority").issue("node")
    ours.key.chmod(0o644)
    table = "[tls]\n" + "".join(f'{key} = "{path}"\n' for key, path in ours.table.items())
    ended = serve(write_config(tmp_path, extra=table))
    assert ended.returncode == 2
    assert f"chmod 600 {ours.key}" in ended.stderr


def test_a_token_that_others_can_read_ends_the_node_with_the_reason(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o644)
    peer = f'[[peer]]\nae_title = "WEB"\naddress = "127.0.0.1"\ntoken_file = "{token}"\n'
    ended = serve(write_config(tmp_path, extra=f"[dicomweb]\nport = 8042\n{peer}"))
    assert ended.returncode == 2
    assert (f"chmod 600 {token}" in ended.stderr, len(ended.stderr.splitlines())) == (True, 1)


def test_a_second_node_on_one_home_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with RunningNode(config):
        ended = serve(config)
    assert ended.returncode == 2
    assert "already serves" in ended.stderr
