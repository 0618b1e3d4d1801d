"""Series and listeners for the tests of reception."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.ledger import database
from dicom_node.receive.storing import Arrival
from tests.peers import Receiver, receiver
from tests.phantoms import PhantomSpec, write
from tests.receive.desk import Desk, arrival_of


@pytest.fixture(scope="session")
def ct_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six CT slices."""
    return write(PhantomSpec(slices=6), tmp_path_factory.mktemp("ct"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Receiver]:
    """A listener with default settings."""
    with receiver(tmp_path / "home") as started:
        yield started


@pytest.fixture
def _gives_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 200)


@pytest.fixture
def engine(_gives_up_soon: None, ledger: sa.Engine) -> sa.Engine:
    """An empty ledger, once on each back end, that gives up soon where it is locked."""
    return ledger


@pytest.fixture
def desk(tmp_path: Path, engine: sa.Engine) -> Desk:
    return Desk(tmp_path, engine)


@pytest.fixture
def arrival(ct_files: list[Path]) -> Arrival:
    return arrival_of(ct_files[0])
