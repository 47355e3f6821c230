"""From rules to what they do to lists: items that may be listed, what is added to scores, and who claims which places.

Conditions join parts about items by `&&`, `||` and `!` with parts about users. So users of whom the parts about users say the same have the
same rules, about items alone: lists are made for one such group after another.

Shapes: U users, N items, P parts about users, T rankings of M items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recsys.lists.candidates import best
from recsys.lists.context import ListContext, Users
from recsys.lists.rule_columns import ItemColumns, UserColumns
from recsys.lists.rule_effects import RuleEffects
from recsys.lists.sources.base import Source, Tops
from recsys.rules.evaluate import Truth, evaluate, every, some
from recsys.rules.rule import Rule, RuleSet, reads_time
from recsys.rules.tree import Every, Node, Not, Some, columns_of

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

NOMINATED = 40
"""Most popular matching items that a rule names as candidates, beside those of all sources; fewer where many rules do."""
_ALL_NOMINATED = 400
_MARGIN = 60
"""Further ones, from which those that a user has seen are made up for."""
_PATTERNS = 64
_KEPT_ITEMS = 8_000_000
"""Groups of users whose effects are kept at most, and items of all of them together: some 17 bytes each."""


class Nominator(Source):
    """Names candidates for rules that raise items. It has no opinion of its own."""

    name = "rules"

    def tops(self, context: ListContext) -> Tops | None:
        return None if context.effects is None else Tops(context.effects.tops, context.effects.quotas)

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        return np.full((len(users), 0), -1, np.int64)

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        return np.zeros(numbers.shape, np.float32)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Results that count until the `key` changes: parts about items, and effects by kind of list and pattern, without nominations."""

    key: tuple[int, ...]
    items: Mapping[Node, Truth] = field(default_factory=dict)
    effects: dict[tuple[str, bytes], RuleEffects] = field(default_factory=dict)


class RulesInUse:
    """Applies a set of rules. What its conditions say of items is kept until the catalogue changes, or event time where they read it."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self._timed = any(reads_time(part) for part in rules.item_parts)
        self._kept = _Kept(())

    def groups(self, users: Users, context: ListContext) -> Iterator[tuple[I64, ListContext]]:
        """Yield the users by what rules do to their lists: their rows, ascending, and the context that their lists are made in."""
        parts = self.rules.user_parts
        if not parts or not len(users):
            yield np.arange(len(users)), self.under(context, bytes(len(parts)))
            return
        columns = UserColumns(users, context)
        codes = np.stack([_codes(evaluate(part, columns)) for part in parts], axis=1)  # (U, P)
        patterns, group_of = np.unique(codes, axis=0, return_inverse=True)
        group_of = group_of.reshape(-1)
        for group, pattern in enumerate(patterns):
            yield np.flatnonzero(group_of == group), self.under(context, pattern.tobytes())

    def under(self, context: ListContext, pattern: bytes) -> ListContext:
        """Return the context of users of whom the parts about users say `pattern` (P): 1 true, 2 false, 0 unknown."""
        kept: dict[bytes, ListContext] = context.once("rules", dict)
        found = kept.get(pattern)
        if found is None:
            found = context.under(self._effects(context, pattern))
            if len(kept) < _room(context):
                kept[pattern] = found
        return found

    def _effects(self, context: ListContext, pattern: bytes) -> RuleEffects:
        held = context.catalogue.held
        version, n_named = (-1, 0) if held is None else (held.version, min(len(held.ids), context.n_items))
        key = (version, context.n_items, n_named, context.now_s if self._timed else 0)
        kept = self._kept  # lists are made in several threads
        if key != kept.key:
            columns = ItemColumns(context)
            kept = self._kept = _Kept(key, {part: evaluate(part, columns) for part in self.rules.item_parts})
        place = context.options.placement, pattern
        found = kept.effects.get(place)
        if found is None:
            if len(kept.effects) >= _room(context):
                kept = self._kept = _Kept(key, kept.items)
            found = kept.effects[place] = self._combined(context, kept.items, pattern)
        return _with_nominations(found, self.rules.rules, context)

    def _combined(self, context: ListContext, items: Mapping[Node, Truth], pattern: bytes) -> RuleEffects:
        """Return what the rules do to lists of users of one pattern, without nominations."""
        users = {part: _constant(code) for part, code in zip(self.rules.user_parts, pattern, strict=True)}
        known: Mapping[Node, Truth] = {**items, **users}
        n, rules = context.n_items, self.rules.rules
        matches: list[Bools | None] = [None] * len(rules)
        for at in self.rules.of_placement(context.options.placement):
            matches[at] = np.broadcast_to(_joined(rules[at].condition, known).yes, (n,))
        allowed = added = marks = None
        pins, movers = [], 0
        for at, (rule, match) in enumerate(zip(rules, matches, strict=True)):
            if match is None:
                continue
            if rule.action in ("allow", "deny"):
                wanted = match if rule.action == "allow" else ~match
                allowed = wanted if allowed is None else allowed & wanted
            elif not match.any():  # lists stay as they are, to the last bit of their scores
                continue
            else:
                marks = np.where(match, np.int64(1 << at), np.int64(0)) | (0 if marks is None else marks)
            if rule.action == "pin":
                pins.append(at)
            elif rule.action in ("boost", "bury"):
                movers |= 1 << at
                amount = np.float32(rule.amount if rule.action == "boost" else -rule.amount)
                added = (np.zeros(n, np.float32) if added is None else added) + np.where(match, amount, np.float32(0))
        places = np.full((len(pins), max((len(rules[at].places) for at in pins), default=0)), -1, np.int64)
        for row, at in enumerate(pins):
            places[row, : len(rules[at].places)] = np.array(sorted(rules[at].places)) - 1
        bits = np.array([1 << at for at in pins], np.int64)
        return RuleEffects(allowed, added, marks, movers, bits, places, matches, np.zeros((0, 0), np.int64), np.zeros(0, np.int64))


def _codes(truth: Truth) -> NDArray[np.uint8]:
    return truth.yes.astype(np.uint8) + np.uint8(2) * truth.no.astype(np.uint8)


def _constant(code: int) -> Truth:
    return Truth(np.asarray(code == 1), np.asarray(code == 2))


def _joined(node: Node, known: Mapping[Node, Truth]) -> Truth:
    """Return a condition of which parts are known already."""
    if node in known:
        return known[node]
    match node:
        case Every(operands=operands):
            return every([_joined(operand, known) for operand in operands])
        case Some(operands=operands):
            return some([_joined(operand, known) for operand in operands])
        case Not(operand=operand):
            yes, no = _joined(operand, known)
            return Truth(no, yes)
    raise AssertionError(f"{columns_of(node)}: each part is known")


def _room(context: ListContext) -> int:
    """Return how many groups' effects are kept."""
    return max(1, min(_PATTERNS, _KEPT_ITEMS // max(context.n_items, 1)))


def _with_nominations(effects: RuleEffects, rules: Sequence[Rule], context: ListContext) -> RuleEffects:
    """Return the effects with candidates: the most popular items that a rule raises, or lets on lists where it leaves few others."""
    wanted: list[tuple[int, Bools]] = []
    for rule, match in zip(rules, effects.matches, strict=True):
        if match is not None and rule.action in ("boost", "pin") and match.any():
            wanted.append((len(rule.places), match))
    if effects.allowed is not None and 2 * np.count_nonzero(effects.allowed) < context.n_items:
        wanted.append((context.options.size, effects.allowed))
    if not wanted:
        return effects
    listable = context.catalogue.recommendable(context.valid_s)
    if effects.allowed is not None:
        listable = listable & effects.allowed
    quotas = [n_places + max(NOMINATED // 5, min(NOMINATED, _ALL_NOMINATED // len(wanted))) for n_places, _ in wanted]
    chosen, numbers = context.popularity.all_time[None, : context.n_items], np.arange(context.n_items)
    tops = np.full((len(wanted), max(quotas) + _MARGIN), -1, np.int64)
    for row, ((_, match), quota) in enumerate(zip(wanted, quotas, strict=True)):
        _, found, _ = best(chosen, np.where(match & listable, numbers, -1)[None], quota + _MARGIN)
        tops[row, : found.shape[1]] = found[0]
    return replace(effects, tops=tops, quotas=np.array(quotas, np.int64))
