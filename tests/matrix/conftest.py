"""One case after another: pytest runs every test of a module on a case before the next one is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix.cases import CASES
from tests.matrix.written import Written, write_case


@pytest.fixture(scope="module", params=CASES, ids=str)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """A case as files: its series, our SEG, our RTSTRUCT."""
    case = write_case(request.param, Path(tmp_path_factory.mktemp("case")))
    yield case
    case.remove()
