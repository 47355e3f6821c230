"""Rules on ranked candidates: add to scores, put items at their places, say which rule moved what.

Shapes: U users, P ranked candidates, K places.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.lists import rule_kernel
from recsys.lists.candidates import Candidates, Columns, best
from recsys.lists.context import ListContext
from recsys.lists.ranker import added_by_rules
from recsys.lists.rule_effects import RuleEffects
from recsys.lists.rules_in_use import Nominator

I64 = NDArray[np.int64]


def boosted(ranked: Candidates, context: ListContext) -> Candidates:
    """Return all candidates with what rules add to their scores, best first, equal ones by number."""
    added = added_by_rules(ranked.numbers, context)
    if added is None:
        return ranked
    columns, _, scores = best(ranked.scores + added, ranked.numbers, ranked.numbers.shape[1])
    with_parts = replace(ranked, scores=ranked.scores + added, parts=Columns.of(ranked.parts).and_(Nominator.name, added))
    ordered = with_parts.at(columns)
    return ordered.only(np.isfinite(scores))


def pinned(ranked: Candidates, effects: RuleEffects) -> tuple[Candidates, I64]:
    """Return the candidates with those that rules pin at their places: of each rule the best first, which take its places in ascending
    order. All others keep their order. And bits of the rules that pinned what is at a place, (U, P)."""
    pinned_by = np.zeros(ranked.numbers.shape, np.int64)
    if effects.marks is None or not len(effects.pins):
        return ranked, pinned_by
    claims = np.where(ranked.valid, effects.marks[np.maximum(ranked.numbers, 0)], 0)
    columns = np.empty(ranked.numbers.shape, np.int64)
    rule_kernel.pin(np.ascontiguousarray(ranked.numbers), claims, effects.pins, effects.places, columns, pinned_by)
    return ranked.at(columns), pinned_by


def movers(listed: Candidates, pinned_by: I64, effects: RuleEffects) -> I64:
    """Return bits of the rules that moved each listed item, (U, K); `pinned_by` (U, K or more) are those that pinned what is at a place."""
    marks = pinned_by[:, : listed.numbers.shape[1]]
    if effects.marks is None:
        return marks
    return marks | np.where(listed.valid, effects.marks[np.maximum(listed.numbers, 0)] & effects.movers, 0)
