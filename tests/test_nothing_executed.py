"""Nothing that comes from outside is executed: no pickle, no evaluated text, no shell, in any module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for package in ("dicom_node", "models") for path in (ROOT / package).rglob("*.py"))
PICKLING = frozenset(
    {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
)
EXECUTING = frozenset({"eval", "exec", "compile", "__import__"})
SHELLS = frozenset({"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"})
SAFE_ONLY_WITH = {
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}


def offences(source: str) -> list[str]:
    """What a module does that it must not."""
    return [found for node in ast.walk(ast.parse(source)) for found in _of(node)]


def _of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in PICKLING)
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLING:
        yield f"from {node.module} import"
    if isinstance(node, ast.Call):
        yield from _of_call(node, ast.unparse(node.func), {item.arg: item.value for item in node.keywords})


def _of_call(node: ast.Call, name: str, keywords: dict[str | None, ast.expr]) -> Iterator[str]:
    if name in EXECUTING | SHELLS or name.rpartition(".")[2] in {"unsafe_load", "full_load"}:
        yield f"{name}() in line {node.lineno}"
    if name in SAFE_ONLY_WITH:
        keyword, needed = SAFE_ONLY_WITH[name]
        given = keywords.get(keyword)
        if not isinstance(given, ast.Constant) or given.value is not needed:
            yield f"{name}() without {keyword}={needed} in line {node.lineno}"
    shell = keywords.get("shell")
    if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
        yield f"{name}() through a shell in line {node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_executes_nothing_from_outside(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.externals",
        "eval(text)",
        "exec(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=flag)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "yaml.unsafe_load(text)",
    ],
)
def test_what_executes_is_found(source: str) -> None:
    assert len(offences(source)) == 1


def test_what_only_looks_like_it_passes() -> None:
    assert offences("network.eval()\nnp.load(path, allow_pickle=False)\nre.compile(text)") == []
