"""What the README's first command needs: the node, and nothing that only tests install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ONLY_FOR_TESTS = ("pytest", "_pytest", "hypothesis", "SimpleITK", "coverage")


def test_demonstration_runs_where_the_tests_tools_are_not_installed() -> None:
    hidden = f"import sys; sys.modules.update(dict.fromkeys({ONLY_FOR_TESTS!r})); import deploy.demonstration"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
