"""``python -m tests.node.alone FOLDER``: a node with one case, as the network namespace it runs in lets it.

Prints, as JSON, how the case ended and the mode of every file of the home while the node ran and after it stopped.
"""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

from tests.machines.site import series_uid
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port
from tests.running_node import RunningNode, write_config

SPEC = PhantomSpec(
    modality="CT", anatomy="torso", slices=40, rows=64, columns=80, row_spacing=5.0, column_spacing=5.0,
    slice_spacing=10.0,
)  # fmt: skip


def modes(home: Path) -> dict[str, str]:
    """Mode of everything under a folder, itself included, in octal digits."""
    return {
        str(path.relative_to(home.parent)): f"{stat.S_IMODE(path.lstat().st_mode):o}"
        for path in (home, *home.rglob("*"))
    }


def main(folder: Path) -> None:
    """Run the node and print what was seen."""
    files = write(SPEC, folder / "series")
    config = write_config(folder / "node", extra=f"[monitoring]\nport = {free_port()}\n")
    with RunningNode(config) as node:
        sent = node.send(files)
        case = node.wait_for_cases([series_uid(files)], seconds=240)[0]
        running = modes(node.settings.node.home)
    print(
        json.dumps(
            {
                "sent": all(outcome.ok for outcome in sent),
                "state": case["state"],
                "reason": case["reason"],
                "running": running,
                "stopped": modes(node.settings.node.home),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
