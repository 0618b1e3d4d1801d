"""What a statement consists of, before it has a format: sections of sentences, lists and tables. Frozen values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of plain text.

    Attributes:
        header: One title a column.
        rows: As many cells each.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"a row has {len(row)} cells, the table {len(self.header)} columns: {row}")


@dataclass(frozen=True)
class Items:
    """A list of sentences.

    Attributes:
        items: One each.
    """

    items: tuple[str, ...]


Block = str | Table | Items
"""A paragraph, a table or a list; all text is plain."""


@dataclass(frozen=True)
class Section:
    """A numbered section.

    Attributes:
        title: Without its number.
        blocks: What it says.
        sections: The sections within it.
    """

    title: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()
