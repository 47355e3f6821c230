"""Rules: what is done with the items that a condition is true of. A set of rules is checked once and compiled for all lists.

Shapes: I parts of conditions that are about items, P parts that are about users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from recsys.catalogue.held_values import Wanted
from recsys.errors import RuleError
from recsys.rules.check import condition
from recsys.rules.names import did_you_mean
from recsys.rules.tree import Column, Every, Kind, Node, Not, Owner, Some, columns_of, operands_of, owners_of
from recsys.state.user_attributes import WantedAttributes

Action: TypeAlias = Literal["allow", "deny", "boost", "bury", "pin"]
MAX_RULES: Final = 50
"""Rules of one set. Each is a bit of a number of 63."""
MAX_PLACES: Final = 20
"""Places that one rule pins."""
MAX_AMOUNT: Final = 1_000.0
"""Most that a rule adds to a score. A source of weight 1 gives 5 to its best candidate."""
PLACEMENTS: Final = ("list",)
"""Kinds of lists that a rule may be limited to. `list` is the list of a user, and the one for everybody."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `when` an item matches, `action`. `amount` > 0 is added to the score by `boost` and taken from it by `bury`; `places`, from
    1, are those that `pin` fills; `placements` are the kinds of lists that it is for, none for all."""

    name: str
    when: str
    action: Action
    amount: float = 1.0
    places: tuple[int, ...] = ()
    placements: tuple[str, ...] = ()
    condition: Node = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Read the condition. Raises RuleError, which names the rule, the field and the remedy."""
        try:
            object.__setattr__(self, "condition", condition(self.when))
        except RuleError as error:
            raise RuleError(f"rule {self.name!r}: when: {error}") from None
        if problem := self._problem():
            raise RuleError(f"rule {self.name!r}: {problem}")

    def _problem(self) -> str | None:
        """Return what is wrong with the other fields."""
        if not 0 < self.amount <= MAX_AMOUNT:
            return f"amount: it must be above 0 and at most {MAX_AMOUNT:g}"
        if self.amount != 1.0 and self.action not in ("boost", "bury"):
            return f"amount: {self.action} has none: remove it"
        if self.places and self.action != "pin":
            return f"places: {self.action} has none: remove them, or write action pin"
        if self.action == "pin" and not self.places:
            return "places: pin needs the places that matching items take: write places = [1]"
        if len(self.places) > MAX_PLACES or len(set(self.places)) < len(self.places) or min(self.places, default=1) < 1:
            return f"places: at most {MAX_PLACES} different places, the first is 1"
        for placement in self.placements:
            if placement not in PLACEMENTS:
                return f"placements: unknown placement {placement!r}; {did_you_mean(placement, PLACEMENTS)}"
        return None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in the order in which they count: of two that pin one place the first wins.

    `item_parts` (I) and `user_parts` (P) are the largest parts of all conditions that are about items only and about users only, each once:
    the conditions join them by `&&`, `||` and `!`."""

    rules: tuple[Rule, ...]
    item_parts: tuple[Node, ...] = field(init=False)
    user_parts: tuple[Node, ...] = field(init=False)
    wanted: Wanted = field(init=False)
    """Values of items that the conditions read."""
    of_profiles: WantedAttributes = field(init=False)
    """Attributes of users' profiles that they read."""

    def __post_init__(self) -> None:
        """Raises RuleError for a name that two rules have, or too many rules."""
        names = [rule.name for rule in self.rules]
        if len(names) > MAX_RULES:
            raise RuleError(f"there are {len(names)} rules, {MAX_RULES} are allowed: join conditions by || and lists")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise RuleError(f"two rules are named {twice!r}: give each a name of its own, lists say which one moved an item")
        parts = [part for rule in self.rules for part in parts_of(rule.condition)]
        for field_name, owner in (("item_parts", "item"), ("user_parts", "user")):
            object.__setattr__(self, field_name, tuple(dict.fromkeys(part for part in parts if owner in (owners_of(part) or ("item",)))))
        columns = [column for rule in self.rules for column in columns_of(rule.condition)]
        object.__setattr__(self, "wanted", _wanted(columns))
        object.__setattr__(self, "of_profiles", WantedAttributes(*_attributes(columns, "user")))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the rules, in their order."""
        return tuple(rule.name for rule in self.rules)

    @property
    def reads_user_ids(self) -> bool:
        """Return True if a condition names `user.id`."""
        columns = {column for part in self.user_parts for column in columns_of(part) if not column.is_attribute}
        return any(column.owner == "user" and column.name == "id" for column in columns)

    def of_placement(self, placement: str) -> list[int]:
        """Return the places of the rules that are for this kind of list."""
        return [at for at, rule in enumerate(self.rules) if not rule.placements or placement in rule.placements]


def parts_of(node: Node) -> list[Node]:
    """Return the largest parts of a condition that are about items only, or about users only."""
    if len(owners_of(node)) < 2:
        return [node]
    assert isinstance(node, Every | Some | Not), "a comparison has one owner: checked before"
    return [part for operand in operands_of(node) for part in parts_of(operand)]


def reads_time(node: Node) -> bool:
    """Return True if what a condition says changes with time alone."""
    return any(column.name in ("age_days", "idle_days") and not column.is_attribute for column in columns_of(node))


def _wanted(columns: Sequence[Column]) -> Wanted:
    texts, numbers = _attributes(columns, "item")
    named = {column.name for column in columns if not column.is_attribute and column.owner == "item"}
    of_users = {column.name for column in columns if not column.is_attribute and column.owner == "user"}
    return Wanted(
        categories="categories" in named or "categories" in of_users,
        titles="title" in named,
        texts=texts,
        numbers=numbers,
    )


def _attributes(columns: Sequence[Column], owner: Owner) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the attributes of items, or of users, that are texts, and of those that are numbers."""
    own = [column for column in columns if column.is_attribute and column.owner == owner]
    texts, numbers = (tuple(sorted({column.name for column in own if column.kind is kind})) for kind in (Kind.TEXT, Kind.NUMBER))
    return texts, numbers
