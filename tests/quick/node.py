"""``python -m tests.quick.node``: ``dicom-node`` with a stand-in for the network; everything else is the node's own.

The inference process starts in half a second instead of four and answers at once, so that many kills fit into minutes.
``QUICK_BUSY_MILLISECONDS`` says how long a locked database is waited for, ``QUICK_LOG_LEVEL`` what is logged.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dicom_node import serve
from dicom_node.cli import main, serving
from dicom_node.ledger import database
from dicom_node.logs import configure_logs
from dicom_node.segment.inference_process import InferenceProcess
from dicom_node.workflow import CaseWork

MODULE = "tests.quick.node"
DEADLY = "QUICK_DEADLY_SERIES"
"""UID of a series that kills the process that assembles it."""


def _start(command: Sequence[str], config: Path | None) -> subprocess.Popen[bytes]:
    configured = ["--config", str(config)] if config else []
    supervised = ["--supervised-by", str(os.getpid())]
    return subprocess.Popen([sys.executable, "-m", MODULE, *configured, *command, *supervised])


def _dying(assemble: Callable[[CaseWork], dict[str, Any]]) -> Callable[[CaseWork], dict[str, Any]]:
    def dying(work: CaseWork) -> dict[str, Any]:
        if os.environ[DEADLY] in str(work.instances[0]):
            os.kill(os.getpid(), signal.SIGKILL)
        return assemble(work)

    return dying


if __name__ == "__main__":
    serve._start = _start
    database.BUSY_MILLISECONDS = int(os.environ.get("QUICK_BUSY_MILLISECONDS", database.BUSY_MILLISECONDS))
    serving.configure_logs = partial(configure_logs, level=os.environ.get("QUICK_LOG_LEVEL", "INFO"))
    if DEADLY in os.environ:
        assemble = CaseWork.assemble
        CaseWork.assemble = _dying(assemble)  # type: ignore[method-assign]
    defaults = InferenceProcess.__init__.__kwdefaults__
    defaults["command"] = (sys.executable, "-m", "tests.quick.inference")
    main()
