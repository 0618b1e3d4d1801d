"""``python -m tests.quick.node``: ``dicom-node`` with a stand-in for the network; everything else is the node's own.

The inference process starts in half a second instead of four and answers at once, so that many kills fit into minutes.
``QUICK_BUSY_MILLISECONDS`` says how long a locked database is waited for, ``QUICK_LOG_LEVEL`` what is logged.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from dicom_node import serve
from dicom_node.cli import main, serving
from dicom_node.ledger import database
from dicom_node.logs import configure_logs
from dicom_node.segment.inference_process import InferenceProcess

MODULE = "tests.quick.node"


def _start(role: str, config: Path | None) -> subprocess.Popen[bytes]:
    configured = ["--config", str(config)] if config else []
    return subprocess.Popen([sys.executable, "-m", MODULE, *configured, role, "--supervised-by", str(os.getpid())])


if __name__ == "__main__":
    serve._start = _start
    database.BUSY_MILLISECONDS = int(os.environ.get("QUICK_BUSY_MILLISECONDS", database.BUSY_MILLISECONDS))
    serving.configure_logs = partial(configure_logs, level=os.environ.get("QUICK_LOG_LEVEL", "INFO"))
    defaults = InferenceProcess.__init__.__kwdefaults__
    defaults["command"] = (sys.executable, "-m", "tests.quick.inference")
    main()
