"""The commands. Everything heavy is imported by the command that needs it, so that ``--help`` answers at once."""

from __future__ import annotations

import sys

from dicom_node.errors import NodeError, SettingsError


def main() -> None:
    """Entry point of ``dicom-node``: runs a command, turns the node's errors into one line and an exit code."""
    from dicom_node.cli.app import app  # noqa: PLC0415 - see the module's docstring

    try:
        app(standalone_mode=True)
    except NodeError as error:
        for line in error.message.splitlines():
            sys.stderr.write(f"dicom-node: {line}\n")
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
    except Exception as error:
        from dicom_node.sqlite_file import damage_of, damaged  # noqa: PLC0415

        if (damage := damage_of(error)) is None:
            raise
        sys.stderr.write(f"dicom-node: {damaged('the database of the node', damage)}\n")
        raise SystemExit(SettingsError.exit_code) from None
