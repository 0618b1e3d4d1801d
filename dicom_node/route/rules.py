"""Rules of the settings -> which card segments a series, where its results go, how urgent it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.errors import InputRefused, SettingsError
from dicom_node.route.conditions import Condition, Subject, compile_conditions
from dicom_node.route.elements import element_values
from dicom_node.route.fit import fit_card
from dicom_node.settings import Priority, RuleTable, Settings
from models.card import FAST, Card, list_variants, load_card

FALLBACK = "fallback"
"""Name of the built-in last rule: CT and MR of any body part go to the card whose anatomy fits."""
FALLBACK_MODALITIES = ("CT", "MR")


@dataclass(frozen=True)
class RuleTrace:
    """What one rule said about a series.

    Attributes:
        rule: Its name.
        matched: Whether it matched; only the last trace of a decision did.
        why_not: Why it did not match, for a person; "" where it matched.
        why: Why it matched; "" where it did not.
    """

    rule: str
    matched: bool
    why_not: str = ""
    why: str = ""


@dataclass(frozen=True)
class Decision:
    """What happens to a series.

    Attributes:
        rule: Name of the rule that matched, ``fallback`` for the built-in one.
        card: Name of the card to segment with.
        destinations: Names of destinations; ``sender`` stands for who sent the series.
        priority: "routine" or "urgent".
        trace: Every rule up to the one that matched, in order.
        card_reason: Why this card, for a person.
    """

    rule: str
    card: str
    destinations: tuple[str, ...]
    priority: Priority
    trace: tuple[RuleTrace, ...]
    card_reason: str


@dataclass(frozen=True)
class Rule:
    """A ``[[rule]]`` whose conditions are ready to be checked."""

    table: RuleTable
    condition: Condition


@dataclass(frozen=True)
class Router:
    """The compiled rules. Built by :func:`compile_rules`; holds no state, so threads may share it."""

    rules: tuple[Rule, ...]
    cards: Mapping[str, Card]
    default_destinations: tuple[str, ...]

    def decide(self, header: Dataset, sender: str = "") -> Decision:
        """Decide over one series; the first rule that matches wins.

        Args:
            header: Attributes of one instance of the series.
            sender: AE title of who sent it; "" where nobody did (files of a folder).

        Raises:
            InputRefused: No rule matches and the series is neither CT nor MR, or the card does not take its modality.
        """
        trace = self.explain(header, sender)
        rule = next((rule.table for rule in self.rules if rule.table.name == trace[-1].rule), None)
        if not trace[-1].matched:
            raise InputRefused(f"no rule matches, and the built-in one does not take it: {trace[-1].why_not}")
        table = rule or RuleTable(name=FALLBACK)
        card, reason = self._card(table, header)
        return Decision(
            rule=table.name,
            card=card,
            destinations=table.to or self.default_destinations,
            priority=table.priority,
            trace=trace,
            card_reason=reason,
        )

    def explain(self, header: Dataset, sender: str = "") -> tuple[RuleTrace, ...]:
        """What each rule says, up to the first that matches; the built-in one is the last."""
        return tuple(self._traces(Subject(header, sender)))

    def _traces(self, subject: Subject) -> Iterator[RuleTrace]:
        for rule in self.rules:
            outcome = rule.condition.check(subject)
            if outcome.holds:
                yield RuleTrace(rule.table.name, matched=True, why=outcome.reason or "it has no conditions")
                return
            yield RuleTrace(rule.table.name, matched=False, why_not=outcome.reason)
        modality = _modality(subject.header)
        if modality in FALLBACK_MODALITIES:
            yield RuleTrace(FALLBACK, matched=True, why=f"Modality is {modality}")
        else:
            yield RuleTrace(FALLBACK, matched=False, why_not=f"expected Modality CT or MR, got {modality or 'none'}")

    def _card(self, table: RuleTable, header: Dataset) -> tuple[str, str]:
        modality = _modality(header)
        if table.card is None:
            full = {name: card for name, card in self.cards.items() if not name.endswith(FAST)}
            takers = [name for name, card in full.items() if modality in card.modalities]
            if takers:
                return fit_card(header, takers)
            raise InputRefused(f"no card takes modality {modality or 'none'}; see the cards' modalities")
        taken = self.cards[table.card].modalities
        if modality not in taken:
            raise InputRefused(
                f'rule "{table.name}" sends the series to the card {table.card}, which takes {" and ".join(taken)}, '
                f"but its modality is {modality or 'absent'}; add a condition on Modality to the rule"
            )
        return table.card, f'rule "{table.name}" names it'


def compile_rules(settings: Settings, cards: Mapping[str, Card] | None = None) -> Router:
    """The router of these settings.

    Args:
        settings: The node's settings.
        cards: Cards by name; those of the package unless given.

    Raises:
        SettingsError: A rule with an unknown keyword, operator or card, with a value its keyword cannot hold, or with
            the name of another rule; or a package without cards.
    """
    known = {name: load_card(name) for name in list_variants()} if cards is None else dict(cards)
    if not known:
        raise SettingsError("the package holds no card; reinstall dicom-node")
    return Router(
        rules=tuple(_compile(table, settings, known) for table in settings.rule),
        cards=known,
        default_destinations=settings.default_destinations,
    )


def _compile(table: RuleTable, settings: Settings, cards: Mapping[str, Card]) -> Rule:
    names = [rule.name for rule in settings.rule]
    if names.count(table.name) > 1 or table.name == FALLBACK:
        raise SettingsError(f'rule "{table.name}": the name is used twice, or is the built-in rule\'s')
    if table.card is not None and table.card not in cards:
        raise SettingsError(f'rule "{table.name}": no card "{table.card}"; the cards are {", ".join(sorted(cards))}')
    return Rule(table, compile_conditions(table.when, rule=table.name))


def _modality(header: Dataset) -> str:
    values = element_values(header, "Modality")
    return str(values[0]).strip().upper() if values else ""
