"""What the models refuse, said as wrong usage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.errors import UsageError


@contextmanager
def refusals_as_usage() -> Iterator[None]:
    """Files that are missing and values that are wrong end the command as wrong usage, in the models' own words.

    Raises:
        UsageError: In place of an OSError or a ValueError.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
