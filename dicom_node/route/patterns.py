"""Regular expressions from a settings file, held to shapes that cannot run away.

Python's ``re`` backtracks and has no time limit: ``(a+)+$`` takes hours on forty characters of a series description.
Patterns are therefore kept to what routing needs: no repeat of a group that itself repeats or branches, a bound on the
ways to match (MAX_WAYS), and only the first MAX_SEARCHED characters of a value are searched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_PATTERN = 200
"""Longest pattern, in characters."""
MAX_SEARCHED = 64
"""Characters of a value that are searched: what LO, the longest VR of a description, holds (PS3.5 6.2)."""
MAX_WAYS = MAX_SEARCHED**3 * 32
"""Bound on repeats, options and alternatives: three open repeats, and a factor of 32 for everything else."""
_COUNTED = re.compile(r"\{(\d*)(,?)(\d*)\}")


@dataclass(frozen=True)
class Pattern:
    """A regular expression that is searched for anywhere in a value, whatever the case of its letters."""

    source: str
    compiled: re.Pattern[str]

    def found_in(self, text: str) -> bool:
        """Whether the pattern occurs in the first MAX_SEARCHED characters."""
        return self.compiled.search(text[:MAX_SEARCHED]) is not None


def compile_pattern(source: str) -> Pattern:
    """A pattern from a settings file.

    Raises:
        ValueError: It is no regular expression, or of a shape that could take long.
    """
    if len(source) > MAX_PATTERN:
        raise ValueError(f"the pattern has {len(source)} characters, at most {MAX_PATTERN} are allowed")
    try:
        compiled = re.compile(source, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    ways = _Scan(source).ways()
    if ways > MAX_WAYS:
        raise ValueError(
            "the pattern has too many repeats, optional parts or alternatives; use at most three repeats, "
            "and several patterns under `or` instead of long ones"
        )
    return Pattern(source, compiled)


@dataclass
class _Group:
    alternatives: int = 1
    branches: bool = False


@dataclass
class _Scan:
    """One pass over a pattern that ``re`` has accepted (so brackets are balanced)."""

    source: str
    _ways: int = 1
    _open: list[_Group] = field(default_factory=lambda: [_Group()])

    def ways(self) -> int:
        """Upper bound on the ways to match from one starting point.

        Raises:
            ValueError: A group that repeats or branches inside is itself repeated.
        """
        position, closed = 0, _Group()
        while position < len(self.source):
            width, quantifier = _quantifier(self.source, position)
            if quantifier:
                self._repeat(quantifier, closed)
                closed = _Group()
            else:
                width, closed = self._symbol(position)
            position += width
        return self._ways * self._open[0].alternatives

    def _symbol(self, position: int) -> tuple[int, _Group]:
        """(characters taken, the group that closed here or an empty one)."""
        character = self.source[position]
        if character == "(":
            self._open.append(_Group())
            return (2 if self.source.startswith("(?", position) else 1), _Group()
        if character == ")":
            group = self._open.pop()
            self._ways *= group.alternatives
            self._open[-1].branches |= group.branches
            return 1, group
        if character == "|":
            self._open[-1].alternatives += 1
            self._open[-1].branches = True
            return 1, _Group()
        return _literal_width(self.source, position), _Group()

    def _repeat(self, quantifier: str, repeated: _Group) -> None:
        if quantifier != "?" and repeated.branches:
            raise ValueError("a repeated group repeats or branches inside; such a pattern can take for ever")
        self._ways *= {"?": 2, "fixed": 1}.get(quantifier, MAX_SEARCHED)
        self._open[-1].branches = True


def _quantifier(source: str, position: int) -> tuple[int, str]:
    """(characters it takes with its lazy or possessive mark, its kind) or (1, "") where there is none."""
    counted = _COUNTED.match(source, position)
    if counted and (counted[1] or counted[2]):
        width, kind = len(counted[0]), "open" if counted[2] else "fixed"
    elif source[position] in "*+?":
        width, kind = 1, "?" if source[position] == "?" else "open"
    else:
        return 1, ""
    if source[position + width : position + width + 1] in {"?", "+"}:
        width += 1
    return width, kind


def _literal_width(source: str, position: int) -> int:
    """Characters that one literal, escape or character class takes."""
    if source[position] == "\\":
        return 2
    if source[position] != "[":
        return 1
    end = position + 1
    if source[end : end + 1] == "^":
        end += 1
    if source[end : end + 1] == "]":
        end += 1
    while source[end] != "]":
        end += 2 if source[end] == "\\" else 1
    return end + 1 - position
