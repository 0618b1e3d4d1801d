"""UIDs that were checked once are not checked again.

An association request proposes some hundred presentation contexts, the same ones from every sender. pynetdicom checks
each of their UIDs three times by pattern, and pydicom with it: a third of what a negotiation costs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, wraps
from typing import Any, Final

import pynetdicom
from pydicom import valuerep

_REMEMBERED: Final = 4096
_LONGEST: Final = 64
"""Characters of a UID (PS3.5 9.1). What is longer is wrong and not remembered: a stranger may send much of it."""

_Check = Callable[..., tuple[bool, str]]


@cache
def remember_uid_checks() -> None:
    """Have both libraries remember what they found about a UID, in this process; what they find stays the same."""
    pynetdicom._config.VALIDATORS["UI"] = remembering(pynetdicom._config.VALIDATORS["UI"])
    valuerep.VALIDATORS["UI"] = remembering(valuerep.VALIDATORS["UI"])


def remembering(check: _Check) -> _Check:
    """A check of which the last argument is the value, that remembers its results for texts."""
    remembered = lru_cache(_REMEMBERED)(check)

    @wraps(check)
    def checked(*arguments: Any) -> tuple[bool, str]:
        value = arguments[-1]
        if isinstance(value, str) and len(value) <= _LONGEST:
            return remembered(*arguments)
        return check(*arguments)

    return checked
