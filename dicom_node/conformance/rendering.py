"""A statement as Markdown, and as one HTML page that needs no other file."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Final

from markdown_it import MarkdownIt

from dicom_node.conformance.document import Block, Items, Section, Table
from dicom_node.conformance.statement import Statement

_DEEPEST_HEADING: Final = 6
_SPECIAL: Final = re.compile(r"([\\`*<&|~]|\](?=[(\[])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
"""What would be markup where our text stands: never at the start of a line; underscores within words are none."""
_STYLE: Final = (
    "body{font:15px/1.5 sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#111}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "th,td{border:1px solid #999;padding:.25rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "th{background:#eee}"
    "@media print{body{font-size:10px;max-width:none}tr{break-inside:avoid}}"
)


def to_markdown(statement: Statement) -> str:
    """The statement as Markdown (CommonMark with tables)."""
    parts = [f"# {_escaped(statement.title)}", "## Table of contents", _contents(statement.sections)]
    for number, section in enumerate(statement.sections, start=1):
        parts += _section(section, str(number), 2)
    return "\n\n".join(parts) + "\n"


def to_html(statement: Statement) -> str:
    """The statement as an HTML page, style included; no scripts, nothing is fetched."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(to_markdown(statement))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(statement.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _contents(sections: Sequence[Section]) -> str:
    lines = []
    for number, section in enumerate(sections, start=1):
        lines.append(f"- {number} {_escaped(section.title)}")
        lines += [f"  - {number}.{place} {_escaped(inner.title)}" for place, inner in enumerate(section.sections, 1)]
    return "\n".join(lines)


def _section(section: Section, number: str, depth: int) -> Iterator[str]:
    yield f"{'#' * min(depth, _DEEPEST_HEADING)} {number} {_escaped(section.title)}"
    for block in section.blocks:
        yield _block(block)
    for place, inner in enumerate(section.sections, start=1):
        yield from _section(inner, f"{number}.{place}", depth + 1)


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Items):
        return "\n".join(f"- {_escaped(item)}" for item in block.items)
    return _escaped(block)


def _table(table: Table) -> str:
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    is_rule = [False, True, *[False] * len(table.rows)]
    return "\n".join(
        "| " + " | ".join(cell if rule else _escaped(cell) for cell in line) + " |"
        for line, rule in zip(lines, is_rule, strict=True)
    )


def _escaped(text: str) -> str:
    """Plain text as Markdown that shows it as it is: names of a configuration are no markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
