"""kill -9 of the listener between the parts of a request: what was answered is there, and all of it can come again."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.peers import await_port, wait_until
from tests.ports import free_port
from tests.receive.dicomweb.calling import AUTHORISED, MULTIPART, PATH, body_of, request, web_peer
from tests.receive.test_kill import listening


def recorded(home: Path) -> list[Path]:
    """The files on record; none while there is no ledger yet."""
    with closing(sqlite3.connect(home / "node.sqlite", timeout=30)) as connection:
        return [Path(row[0]) for row in connection.execute("SELECT path FROM instances")]


@pytest.mark.peer
@pytest.mark.slow
def test_nothing_that_was_answered_is_lost(tmp_path: Path, ct_files: list[Path]) -> None:
    home, port, web_port = tmp_path / "home", free_port(), free_port()
    home.mkdir()
    (home / "tables.json").write_text(json.dumps({"dicomweb": {"port": web_port}, "peer": [web_peer(tmp_path)]}))
    whole = body_of(path.read_bytes() for path in ct_files)
    with listening(home, port) as process:
        await_port(web_port, process)
        assert request(web_port, body_of([ct_files[0].read_bytes()])).status == 200
        connection = HTTPConnection("127.0.0.1", web_port, timeout=20)
        connection.putrequest("POST", PATH)
        for name, value in {**AUTHORISED, "Content-Type": MULTIPART, "Content-Length": str(len(whole))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(whole[: len(whole) * 3 // 4])
        assert wait_until(lambda: len(recorded(home)) >= 3)
        process.kill()
        process.wait()
        connection.close()
    half = recorded(home)
    assert all(path.is_file() for path in half)
    with listening(home, port) as process:
        await_port(web_port, process)
        assert request(web_port, whole).status == 200
    assert len(recorded(home)) == len(ct_files)
    assert set(half) <= set(recorded(home))
    with closing(sqlite3.connect(home / "node.sqlite", timeout=30)) as ledger:
        assert ledger.execute("SELECT count(*) FROM associations WHERE closed_at IS NULL").fetchone() == (0,)
