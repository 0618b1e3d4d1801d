"""Destinations for the tests of delivery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.ledger.database import open_database
from dicom_node.ledger.deliveries import Deliveries
from tests.peers import Peer, dcmqrscp, orthanc
from tests.phantoms import PhantomSpec, write


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three objects to deliver."""
    return write(PhantomSpec(slices=3), tmp_path_factory.mktemp("objects"))


@pytest.fixture(scope="session")
def orthanc_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as peer:
        yield peer


@pytest.fixture
def dcmqrscp_peer(tmp_path: Path) -> Iterator[Peer]:
    with dcmqrscp(tmp_path / "dcmqrscp") as peer:
        yield peer


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    opened = open_database(f"sqlite:///{tmp_path / 'node.sqlite'}")
    yield opened
    opened.dispose()


@pytest.fixture
def deliveries(engine: sa.Engine) -> Deliveries:
    return Deliveries(engine)
