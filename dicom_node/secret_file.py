"""Files that hold a secret: keys, tokens, passwords. Who else may read them is looked at before they are used."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from dicom_node.errors import SettingsError

_FOREIGN: Final = 0o077
_FOREIGN_OF_ROOT: Final = 0o037
"""What belongs to root may be readable by a group: so secrets are handed to a process that is not root."""


def require_private(what: str, path: Path) -> None:
    """Check that nobody else can read a file.

    Args:
        what: What the settings call it, for the message.
        path: The file.

    Raises:
        SettingsError: Others can, or it is not there.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise SettingsError(f"{what} {path} cannot be read: {error.strerror}") from error
    mode = stat.S_IMODE(status.st_mode)
    if mode & (_FOREIGN_OF_ROOT if status.st_uid == 0 != os.geteuid() else _FOREIGN):
        raise SettingsError(f"{what} {path} can be read by others (mode {mode:04o}): chmod 600 {path}")


def read_secret(what: str, path: Path) -> str:
    """The text of a private file, without the white space around it.

    Args:
        what: What the settings call it, for the message.
        path: The file.

    Raises:
        SettingsError: Others can read it, or it cannot be read as text.
    """
    require_private(what, path)
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{what} {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{what} {path} cannot be read: it is no text") from error
