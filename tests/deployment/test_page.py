"""deploy/README.md: what it shows works when it is typed, and names only what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from dicom_node.settings import parse_settings
from tests.deployment.files import DEPLOY, REPOSITORY
from tests.deployment.page import PAGE, Block, blocks

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#]*)(?:#(?P<anchor>[^)]*))?\)")
UNSHARE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


@cache
def is_isolated() -> bool:
    """Whether machines of their own can be made here."""
    if os.geteuid() != 0:
        return False
    return subprocess.run([*UNSHARE, "ip", "link", "set", "lo", "up"], check=False, capture_output=True).returncode == 0


def followed(*sections: str) -> subprocess.CompletedProcess[str]:
    if not is_isolated():
        pytest.skip("needs root and namespaces")
    command = [*UNSHARE, sys.executable, "-m", "tests.deployment.machine", *sections]
    return subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300
    )


@pytest.mark.peer
@pytest.mark.slow
def test_one_machine_with_a_pacs_a_planning_system_and_tls() -> None:
    done = followed("One machine and a PACS", "With a planning system", "TLS")
    assert (done.returncode, "results arrived" in done.stdout) == (0, True), done.stdout


@pytest.mark.peer
@pytest.mark.slow
def test_three_machines() -> None:
    done = followed("Three machines")
    assert (done.returncode, "results arrived" in done.stdout) == (0, True), done.stdout


def test_what_is_not_typed_here_says_why_and_is_still_a_script() -> None:
    scripts = [block for block in blocks() if block.language == "sh"]
    assert len(scripts) > 15
    for block in scripts:
        done = subprocess.run(["bash", "-n"], input=block.text, text=True, check=False, capture_output=True)
        assert done.returncode == 0, (block, done.stderr)
    followed_sections = {"One machine and a PACS", "With a planning system", "TLS", "Three machines"}
    for block in scripts:
        assert block.not_run or block.section in followed_sections, block


def test_settings_on_the_page_are_settings() -> None:
    files: dict[tuple[str, str], str] = {}
    whole = ""
    for block in blocks():
        if block.language == "toml":
            assert block.path == "/etc/dicom-node/node.toml"
            whole = whole + block.text if block.is_appended else block.text
            files[block.section, str(block.path)] = whole
    assert len(files) == 4
    for (section, path), text in files.items():
        parse_settings(tomllib.loads(text), origin=f"{section}: {path}")


@pytest.mark.parametrize("block", [block for block in blocks() if block.language == "sh"], ids=lambda b: b.section)
def test_commands_of_the_node_exist(block: Block) -> None:
    spoken = re.sub(r"\\\n", " ", block.text)
    for line in spoken.splitlines():
        found = re.search(r"(?:^|-- |exec \w+ )dicom-node (?P<command>[a-z]+)(?P<rest>.*)", line)
        if found:
            options = re.findall(r"--[a-z-]+", found["rest"])
            shown = subprocess.run(
                [sys.executable, "-m", "dicom_node", found["command"], "--help"],
                capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"},
            )  # fmt: skip
            assert shown.returncode == 0, line
            assert all(option in shown.stdout for option in options), line


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)", page.read_text())
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_files_and_sections_that_the_page_names_exist() -> None:
    links = list(LINK.finditer(PAGE.read_text()))
    assert len(links) > 15
    for link in links:
        target = DEPLOY / link["target"] if link["target"] else PAGE
        assert target.exists(), link[0]
        assert not link["anchor"] or link["anchor"] in anchors(target), link[0]
    for name in re.findall(r"(?<![\w/.-])(?:deploy|orthanc)/[\w@./-]+[\w]", "".join(block.text for block in blocks())):
        assert name == "deploy/compose/.env" or (REPOSITORY / name).exists(), name


def test_the_page_says_which_machine_has_which_address() -> None:
    from tests.deployment.machine import ADDRESSES  # noqa: PLC0415

    named = set(re.findall(r"10\.1\.2\.\d+(?!/)\b", PAGE.read_text()))
    assert named == set(ADDRESSES)
