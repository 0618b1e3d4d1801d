"""Conditions of a rule: ``when = { Modality = "CT", SliceThickness = { less = 5 }, not = { ... } }``.

Every key of ``when`` must hold. A key is a DICOM keyword or one of ``and``, ``or`` (lists of such tables) and ``not``
(one table). A keyword's condition is a value (equals), a list (any of), or a table of operators, all of which one value
of the element must meet: ``equals``, ``in``, ``regex``, ``greater``, ``less``; ``present = true`` or ``false`` asks
whether the element has a value at all. A multi-valued element meets a condition when any of its values does.
``SourceApplicationEntityTitle`` is the AE title of who sent the series.
"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydicom import Dataset
from pydicom.datadict import keyword_dict

from dicom_node.errors import SettingsError
from dicom_node.route.elements import (
    Comparable,
    Family,
    comparable,
    element_values,
    family,
    identifies_patient,
    value_representation,
)
from dicom_node.route.patterns import Pattern, compile_pattern

SENDER_KEYWORD = "SourceApplicationEntityTitle"
_DEEPEST = 16
_LONGEST = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "UI": 64}
_WHOLE = {"IS", "US", "SS", "UL", "SL", "UV", "SV", "US or SS"}
_UNSIGNED = {"US", "UL", "UV"}
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Subject:
    """What a rule looks at: one header of a series, and who sent it ("" where nobody did)."""

    header: Dataset
    sender: str

    def values(self, keyword: str) -> tuple[object, ...]:
        """The values under a keyword; none where it is absent or empty."""
        if keyword == SENDER_KEYWORD and self.sender:
            return (self.sender,)
        return element_values(self.header, keyword)


@dataclass(frozen=True)
class Outcome:
    """Whether a condition holds, and why (or why not), for a person."""

    holds: bool
    reason: str


class Condition(Protocol):
    """A condition over a subject."""

    def check(self, subject: Subject) -> Outcome:
        """Whether the condition holds."""
        ...


@dataclass(frozen=True)
class Operator:
    """One operator with its argument, as ``less than 5``."""

    words: str
    accepts: Callable[[Comparable], bool]


@dataclass(frozen=True)
class Comparison:
    """All operators hold for one value of an element."""

    keyword: str
    vr: str
    operators: tuple[Operator, ...]

    def check(self, subject: Subject) -> Outcome:
        """Whether any value meets all operators."""
        values = subject.values(self.keyword)
        if not values:
            return Outcome(False, f"{self.keyword} is absent or empty")
        hidden = identifies_patient(self.keyword)
        wanted = "what the rule asks for" if hidden else " and ".join(operator.words for operator in self.operators)
        holds = any(self._meets(value) for value in values)
        found = "a value not shown here" if hidden else _shown(values)
        return Outcome(holds, f"{self.keyword} is {found}, {'as asked' if holds else 'not'}: {wanted}")

    def _meets(self, value: object) -> bool:
        try:
            ready = comparable(self.vr, value)
        except ValueError:
            return False
        return all(operator.accepts(ready) for operator in self.operators)


@dataclass(frozen=True)
class Presence:
    """The element has a value, or has none."""

    keyword: str
    present: bool

    def check(self, subject: Subject) -> Outcome:
        """Whether the element is as present as asked."""
        present = bool(subject.values(self.keyword))
        return Outcome(present is self.present, f"{self.keyword} {'has a value' if present else 'is absent or empty'}")


@dataclass(frozen=True)
class AllOf:
    """Every part holds; without parts, always."""

    parts: tuple[Condition, ...]

    def check(self, subject: Subject) -> Outcome:
        """The reason names every part that fails."""
        outcomes = [part.check(subject) for part in self.parts]
        failed = [outcome.reason for outcome in outcomes if not outcome.holds]
        return Outcome(not failed, "; ".join(failed or [outcome.reason for outcome in outcomes]))


@dataclass(frozen=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Condition, ...]

    def check(self, subject: Subject) -> Outcome:
        """The reason is that of the first part that holds, or of all."""
        outcomes = [part.check(subject) for part in self.parts]
        for outcome in outcomes:
            if outcome.holds:
                return outcome
        return Outcome(False, f"none of: {' | '.join(outcome.reason for outcome in outcomes)}")


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Condition

    def check(self, subject: Subject) -> Outcome:
        """The reason is the part's, under "not"."""
        outcome = self.part.check(subject)
        return Outcome(not outcome.holds, f"not ({outcome.reason})")


def compile_conditions(when: dict[str, Any], *, rule: str) -> Condition:
    """The conditions of one rule.

    Args:
        when: The rule's ``when`` table.
        rule: Its name, for messages.

    Raises:
        SettingsError: An unknown keyword or operator, or a value that the keyword's VR cannot hold; names rule and key.
    """
    return _all_of(when, f'rule "{rule}": when', 0)


def _all_of(table: object, place: str, depth: int) -> Condition:
    if not isinstance(table, dict):
        raise SettingsError(f"{place}: expected a table of conditions, got {table!r}")
    if depth > _DEEPEST:
        raise SettingsError(f"{place}: conditions are nested more than {_DEEPEST} deep")
    return AllOf(tuple(_condition(key, value, f"{place}.{key}", depth + 1) for key, value in table.items()))


def _condition(key: str, value: object, place: str, depth: int) -> Condition:
    if key in {"and", "or"}:
        if not isinstance(value, list) or not value:
            raise SettingsError(f"{place}: expected a list of tables, got {value!r}")
        parts = tuple(_all_of(part, f"{place}[{number}]", depth) for number, part in enumerate(value))
        return AllOf(parts) if key == "and" else AnyOf(parts)
    if key == "not":
        if not value:
            raise SettingsError(f"{place}: expected a table with at least one condition, got {value!r}")
        return Not(_all_of(value, place, depth))
    return _keyword_condition(key, value, place)


def _keyword_condition(keyword: str, value: object, place: str) -> Condition:
    vr = value_representation(keyword)
    if vr is None:
        near = difflib.get_close_matches(keyword, keyword_dict, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"{place}: {keyword} is no DICOM keyword{hint}")
    table = value if isinstance(value, dict) else {"in" if isinstance(value, list) else "equals": value}
    if not table:
        raise SettingsError(f"{place}: expected at least one operator: {', '.join(sorted(_OPERATORS))} or present")
    parts: list[Condition] = []
    operators: list[Operator] = []
    for name, argument in table.items():
        if name == "present":
            parts.append(Presence(keyword, _flag(argument, place)))
        elif name in _OPERATORS:
            operators.append(_operator(name, argument, vr, f"{place}.{name}"))
        else:
            raise SettingsError(f'{place}: unknown operator "{name}"; known: {", ".join([*_OPERATORS, "present"])}')
    if operators:
        parts.append(Comparison(keyword, vr, tuple(operators)))
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _operator(name: str, argument: object, vr: str, place: str) -> Operator:
    if family(vr) is Family.OPAQUE:
        raise SettingsError(f"{place}: values of VR {vr} cannot be compared; only present can be asked")
    try:
        return _OPERATORS[name](argument, vr)
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error


def _equals(argument: object, vr: str) -> Operator:
    wanted = _setting_value(argument, vr, exact=True)
    return Operator(_quoted(argument), lambda value: value == wanted)


def _one_of(argument: object, vr: str) -> Operator:
    if not isinstance(argument, list) or not argument:
        raise ValueError(f"expected a list with at least one value, got {argument!r}")
    wanted = frozenset(_setting_value(item, vr, exact=True) for item in argument)
    return Operator("one of " + _listed(argument, _quoted), lambda value: value in wanted)


def _regex(argument: object, vr: str) -> Operator:
    if family(vr) is not Family.TEXT:
        raise ValueError(f"a regular expression needs text, but the VR is {vr}, {family(vr).value}")
    if not isinstance(argument, str):
        raise ValueError(f"expected a regular expression as text, got {argument!r}")  # noqa: TRY004 - caught as such
    pattern: Pattern = compile_pattern(argument)
    return Operator(f"matching /{argument}/", lambda value: isinstance(value, str) and pattern.found_in(value))


def _ordered(words: str, accepts: Callable[[Any, Any], bool]) -> Callable[[object, str], Operator]:
    def operator(argument: object, vr: str) -> Operator:
        if not family(vr).is_ordered:
            raise ValueError(f"{words} needs a number, a date, a time or an age, but the VR is {vr}")
        wanted = _setting_value(argument, vr, exact=False)
        return Operator(f"{words} {_quoted(argument)}", lambda value: accepts(value, wanted))

    return operator


_OPERATORS: dict[str, Callable[[object, str], Operator]] = {
    "equals": _equals,
    "in": _one_of,
    "regex": _regex,
    "greater": _ordered("greater than", lambda value, wanted: bool(value > wanted)),
    "less": _ordered("less than", lambda value, wanted: bool(value < wanted)),
}


def _flag(argument: object, place: str) -> bool:
    if not isinstance(argument, bool):
        raise SettingsError(f"{place}.present: expected true or false, got {argument!r}")
    return argument


def _setting_value(argument: object, vr: str, *, exact: bool) -> Comparable:
    """A value from the settings, as its VR's comparable; ``exact``: it must be one the VR can hold."""
    kind = family(vr)
    if kind is Family.NUMBER:
        return _setting_number(argument, vr, exact=exact)
    native = _native(argument, kind)
    if native is not None:
        return native
    if not isinstance(argument, str) or not argument.strip():
        raise ValueError(f"{argument!r} cannot be a value of VR {vr}: expected {kind.value}")
    if len(argument.strip()) > _LONGEST.get(vr, len(argument)):
        raise ValueError(f"{argument!r} cannot be a value of VR {vr}: it has more than {_LONGEST[vr]} characters")
    return comparable(vr, argument)


def _setting_number(argument: object, vr: str, *, exact: bool) -> Comparable:
    if isinstance(argument, bool) or not isinstance(argument, (int, float)):
        raise ValueError(f"{argument!r} cannot be a value of VR {vr}: expected a number")  # noqa: TRY004 - caught as such
    number = comparable(vr, argument)
    if exact and vr in _WHOLE and (number != int(argument) or (vr in _UNSIGNED and argument < 0)):
        raise ValueError(f"{argument!r} cannot be a value of VR {vr}: expected a whole number within its range")
    return number


def _native(argument: object, kind: Family) -> Comparable | None:
    """A date, time or date-time as TOML writes them, where the VR holds such; without an offset it is taken as UTC."""
    if isinstance(argument, dt.datetime):
        return argument.replace(tzinfo=argument.tzinfo or dt.UTC) if kind is Family.DATETIME else None
    if isinstance(argument, dt.date):
        return argument if kind is Family.DATE else None
    return argument if isinstance(argument, dt.time) and kind is Family.TIME else None


def _shown(values: Sequence[object]) -> str:
    return _listed(values, lambda value: _quoted(str(value).strip(" \0")))


def _listed(values: Sequence[_Item], show: Callable[[_Item], str], most: int = 8) -> str:
    """The first values; the rest is counted."""
    shown = ", ".join(show(value) for value in values[:most])
    return f"{shown} and {len(values) - most} more" if len(values) > most else shown


def _quoted(value: object) -> str:
    text = "".join(character if character.isprintable() else "?" for character in str(value))
    text = text if len(text) <= 64 else f"{text[:61]}..."
    return f'"{text}"' if isinstance(value, str) else text
