"""Says what rules do to lists: from lists with and without them to figures by rule, contradictions, and each list before and after.

Shapes: U users, N items, K places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.engine import Lists
from recsys.lists.rule_effects import RuleEffects
from recsys.rules.rule import Rule, RuleSet
from recsys.rules.tree import Owner, columns_of

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
EXAMPLES = 3
"""Items that a finding names."""


@dataclass(frozen=True, slots=True)
class RuleFigures:
    """One rule: how many `items` match for any of the users, for how many `users` some item does; how many places hold items that match,
    `before` and `after`; and how many places it filled, raised, lowered or emptied by itself or with others (`moved`)."""

    name: str
    action: str
    when: str
    items: int
    users: int
    before: int
    after: int
    moved: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at: `kind` is `no_match`, `unknown_attribute`, `contradiction`, `no_items_left` or `shorter`."""

    kind: str
    rules: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """An item of a list that rules changed: its places from 1, None where it is not on the list, and the rules that did it."""

    item_id: str
    before: int | None
    after: int | None
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserChanges:
    """A user's list `before` and `after` by item ids, and the items that rules moved or removed."""

    user_id: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class RuleReport:
    """Effects of rules on lists; `users` holds those whose list differs."""

    n_items: int
    n_users: int
    n_changed: int
    n_shorter: int
    rules: tuple[RuleFigures, ...]
    findings: tuple[Finding, ...]
    users: tuple[UserChanges, ...] = field(default=())

    def figures(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)


Groups = Sequence[tuple[I64, RuleEffects]]
"""Rows of users and what rules do to their lists."""


def report(rules: RuleSet, names: Sequence[str], user_ids: Sequence[str], before: Lists, after: Lists, groups: Groups) -> RuleReport:
    """Return what the rules did to lists `before` of the users `user_ids` (U), which made them lists `after`; `names` are item ids by
    number."""
    changed = [row for row in range(len(user_ids)) if _listed(before, row) != _listed(after, row)]
    effects_of = {int(row): effects for rows, effects in groups for row in rows}
    users = [_changes(rules, names, user_ids[row], _listed(before, row), after, row, effects_of[row]) for row in changed]
    n_before, n_after = (np.isfinite(lists.scores).sum(axis=1) for lists in (before, after))
    n_shorter = int((n_after < n_before).sum())
    findings = [*_findings(rules, names, groups)]
    if n_shorter:
        text = f"{n_shorter:,} of {len(user_ids):,} lists get shorter, the shortest has {int(n_after.min())} items"
        findings.append(Finding("shorter", (), text))
    figures = tuple(_figures(rule, at, before, after, groups, users) for at, rule in enumerate(rules.rules))
    n_items = len(names)
    return RuleReport(n_items, len(user_ids), len(changed), n_shorter, figures, tuple(findings), tuple(users))


def _listed(lists: Lists, row: int) -> list[int]:
    numbers: list[int] = lists.items[row][np.isfinite(lists.scores[row])].tolist()
    return numbers



def _changes(
    rules: RuleSet, names: Sequence[str], user_id: str, old: list[int], after: Lists, row: int, effects: RuleEffects
) -> UserChanges:
    new = _listed(after, row)
    assert after.rules is not None
    found = []
    for place, number in enumerate(new):
        moved_by = _named(rules, int(after.rules[row, place]))
        if moved_by:
            found.append(Change(names[number], old.index(number) + 1 if number in old else None, place + 1, moved_by))
    for place, number in enumerate(old):
        if number not in new:
            found.append(Change(names[number], place + 1, None, _removed_by(rules, effects, number)))
    found.sort(key=lambda one: (one.after is None, one.after or one.before or 0))
    return UserChanges(user_id, tuple(names[n] for n in old), tuple(names[n] for n in new), tuple(found))


def _named(rules: RuleSet, bits: int) -> tuple[str, ...]:
    return tuple(name for at, name in enumerate(rules.names) if bits >> at & 1)


def _removed_by(rules: RuleSet, effects: RuleEffects, number: int) -> tuple[str, ...]:
    """Return the rules that keep an item off the list, else those that buried it; none where others took its place."""
    off, buried = [], []
    for rule, matches in zip(rules.rules, effects.matches, strict=True):
        if matches is None:
            continue
        if rule.action in ("allow", "deny") and bool(matches[number]) == (rule.action == "deny"):
            off.append(rule.name)
        elif rule.action == "bury" and matches[number]:
            buried.append(rule.name)
    return tuple(off or buried)


def _figures(rule: Rule, at: int, before: Lists, after: Lists, groups: Groups, users: Sequence[UserChanges]) -> RuleFigures:
    items: Bools | None = None
    n_users, counts = 0, {"before": 0, "after": 0}
    for rows, effects in groups:
        matches = effects.matches[at]
        if matches is None:
            continue
        items = matches if items is None else items | matches
        n_users += len(rows) if matches.any() else 0
        for name, lists in (("before", before), ("after", after)):
            listed = lists.items[rows][np.isfinite(lists.scores[rows])]
            counts[name] += int(matches[listed].sum())
    moved = sum(rule.name in change.rules for user in users for change in user.changes)
    n_items = 0 if items is None else int(items.sum())
    return RuleFigures(rule.name, rule.action, rule.when, n_items, n_users, counts["before"], counts["after"], moved)


def _findings(rules: RuleSet, names: Sequence[str], groups: Groups) -> list[Finding]:
    found: list[Finding] = []
    for at, rule in enumerate(rules.rules):
        matches = [effects.matches[at] for _, effects in groups]
        if not any(one is not None and one.any() for one in matches):
            found.append(Finding("no_match", (rule.name,), f"rule {rule.name}: no item matches {rule.when}"))
    empty = sum(len(rows) for rows, effects in groups if effects.allowed is not None and not effects.allowed.any())
    if empty:
        text = f"{empty:,} users may see no item at all: what one rule allows, another one does not allow or denies"
        found.append(Finding("no_items_left", tuple(r.name for r in rules.rules if r.action in ("allow", "deny")), text))
    pairs = [(one, other) for one in range(len(rules.rules)) for other in range(len(rules.rules)) if one != other]
    for one, other in pairs:
        overlap = _largest_overlap(rules, groups, one, other)
        if overlap is not None:
            found.append(_contradiction(rules, names, one, other, overlap))
    return found


def _largest_overlap(rules: RuleSet, groups: Groups, one: int, other: int) -> I64 | None:
    """Return the items of which two rules want opposite things, (n,), for the users for whom they are most; None if there are none."""
    first, second = rules.rules[one], rules.rules[other]
    if (first.action, second.action) in (("deny", "pin"), ("deny", "boost"), ("bury", "boost")):
        inverted = False
    elif first.action == "allow" and second.action in ("pin", "boost"):
        inverted = True
    elif first.action == second.action == "pin" and one < other and set(first.places) & set(second.places):
        inverted = False
    else:
        return None
    best: I64 | None = None
    for _, effects in groups:
        matches, others = effects.matches[one], effects.matches[other]
        if matches is None or others is None:
            continue
        if first.action == second.action == "pin":
            common = np.flatnonzero(matches | others) if matches.any() and others.any() else np.zeros(0, np.int64)
        else:
            common = np.flatnonzero((~matches if inverted else matches) & others)
        if len(common) and (best is None or len(common) > len(best)):
            best = common
    return best


def _contradiction(rules: RuleSet, names: Sequence[str], one: int, other: int, items: I64) -> Finding:
    first, second = rules.rules[one], rules.rules[other]
    if first.action == second.action == "pin":
        places = ", ".join(map(str, sorted(set(first.places) & set(second.places))))
        text = f"rules {first.name} and {second.name} pin the same place ({places}): {first.name} comes first and takes it"
        return Finding("contradiction", (first.name, second.name), text)
    does = {"deny": "denies", "bury": "buries", "allow": "does not allow"}[first.action]
    wants = {"pin": "pins", "boost": "boosts"}[second.action]
    shown = ", ".join(names[number] for number in items[:EXAMPLES].tolist())
    more = f" and {len(items) - EXAMPLES:,} more" if len(items) > EXAMPLES else ""
    wins = "" if first.action == "bury" else ": they are not listed"
    text = f"rule {first.name} {does} what rule {second.name} {wants}: {shown}{more}{wins}"
    return Finding("contradiction", (first.name, second.name), text)


def unknown_attributes(rules: RuleSet, owner: Owner, missing: Mapping[str, str | None]) -> list[Finding]:
    """Return a finding for each attribute that no item has, or no chosen user, with the nearest one that some item or user has."""
    found, nobody = [], {"item": "no item", "user": "none of these users"}[owner]
    for attribute, near in missing.items():
        named = tuple(rule.name for rule in rules.rules if _reads(rule, owner, attribute))
        hint = f"; did you mean {near}?" if near is not None else ""
        found.append(Finding("unknown_attribute", named, f"{nobody} has the attribute {attribute}{hint}"))
    return found


def _reads(rule: Rule, owner: Owner, attribute: str) -> bool:
    columns = columns_of(rule.condition)
    return any(column.is_attribute and (column.owner, column.name) == (owner, attribute) for column in columns)
