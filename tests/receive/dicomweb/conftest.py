"""A listener that speaks DICOMweb."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import Receiver
from tests.receive.dicomweb.calling import web_receiver


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Receiver]:
    with web_receiver(tmp_path) as node:
        yield node
