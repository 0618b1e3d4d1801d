"""A listener in a process of its own, to be killed: ``python -m tests.receive.serve_listener HOME PORT [PARENT]``.

Given the id of its parent process it dies with it. A ``tables.json`` in its home holds further tables of node.toml.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from dicom_node.ledger.database import open_database
from dicom_node.ledger.intake import Intake
from dicom_node.process import die_with_parent
from dicom_node.receive.listener import Listener
from dicom_node.settings import Settings

if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_with_parent(int(sys.argv[3]))
    further = Path(sys.argv[1]) / "tables.json"
    tables = json.loads(further.read_text()) if further.is_file() else {}
    settings = Settings.model_validate({"node": {"home": sys.argv[1], "port": int(sys.argv[2])}, **tables})
    Listener(settings, Intake(open_database(settings.database_url))).start()
    threading.Event().wait()
