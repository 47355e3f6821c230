"""Rules as settings and files write them, checked when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from workers.section import Section

if TYPE_CHECKING:
    from recsys.rules.rule import Rule, RuleSet

VISIBLE = r"^[^\u0000-\u001f\u007f-\u009f]+$"


class RuleSettings(Section):
    """One rule of lists (docs/rules.md)."""

    name: Annotated[str, Field(max_length=64, pattern=VISIBLE)]
    """Name by which lists say that the rule moved an item."""
    when: str
    """Condition, in a subset of CEL."""
    action: Literal["allow", "deny", "boost", "bury", "pin"]
    """What is done with items that match."""
    amount: Annotated[float, Field(strict=False, allow_inf_nan=False)] = 1.0
    """What `boost` adds to the score of an item, and `bury` takes from it."""
    places: tuple[int, ...] = ()
    """Places of the list that `pin` fills, from 1."""
    placements: tuple[str, ...] = ()
    """Kinds of lists that the rule is for; all if none is named."""

    @model_validator(mode="after")
    def _is_read(self) -> RuleSettings:
        self.rule()
        return self

    def rule(self) -> Rule:
        """Return the rule with its condition read. Raises RuleError."""
        from recsys.rules.rule import Rule  # the parser is loaded only where there are rules

        return Rule(self.name, self.when, self.action, self.amount, self.places, self.placements)


def rule_set(rules: Sequence[RuleSettings]) -> RuleSet | None:
    """Return the rules as lists follow them, None where there are none. Raises RuleError."""
    if not rules:
        return None
    from recsys.rules.rule import RuleSet

    return RuleSet(tuple(rule.rule() for rule in rules))


def _fit_together(rules: tuple[RuleSettings, ...]) -> tuple[RuleSettings, ...]:
    rule_set(rules)
    return rules


Rules = Annotated[tuple[RuleSettings, ...], AfterValidator(_fit_together)]
"""Rules with names that differ, not too many."""
