"""deploy/README.md as what a person does with it: files to write and commands to type, section by section."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.deployment.files import DEPLOY

PAGE = DEPLOY / "README.md"
_FENCE = re.compile(
    r"(?ms)(?:^<!-- not run by the tests: (?P<why>[^\n]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$"
)
_FILE = re.compile(r"# (?P<append>>> )?(?P<path>/\S+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        section: The heading it stands under.
        language: ``sh`` is typed; ``toml`` and ``conf`` are written to the path in their first line.
        text: What stands in it.
        not_run: Why the tests do not type it; empty where they do.
    """

    section: str
    language: str
    text: str
    not_run: str = ""

    @property
    def path(self) -> str | None:
        """Where it is written to, if it is a file."""
        found = _FILE.match(self.text)
        return found["path"] if found and self.language != "sh" else None

    @property
    def is_appended(self) -> bool:
        """Whether it goes to the end of a file that is there."""
        found = _FILE.match(self.text)
        return bool(found and found["append"])


def blocks() -> list[Block]:
    """Every block of the page, in order."""
    found = []
    for part in re.split(r"(?m)^## ", PAGE.read_text())[1:]:
        heading, _, body = part.partition("\n")
        found += [
            Block(heading, match["language"], match["text"], match["why"] or "") for match in _FENCE.finditer(body)
        ]
    return found
