"""Says why an item is not on a list."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys.catalogue.items import UNKNOWN_S
from recsys.engine import Engine
from recsys.lists.rules_in_use import Nominator
from recsys.lists.shown import counts_of
from recsys.lists.trace import RANKED, Trace

Kind = Literal[
    "unknown_item", "unavailable", "not_yet_published", "expired", "seen", "resting", "denied", "filtered", "not_nominated", "ranked_below",
    "pushed_out",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Absence:
    """Why an item is not on a list, as a word and as a sentence."""

    kind: Kind
    text: str


def absence(engine: Engine, trace: Trace, item: int, blocked: Sequence[str], *, is_described: bool) -> Absence:
    """Return why an item is not on the first user's list. `blocked` are the filters that keep it off, in their order."""
    for name in blocked:
        return _filtered(engine, trace, item, name, is_described=is_described)
    if trace.ranked_place(0, item) is None:
        raw = [f"{name} {value:.4g}" for name, (value, _) in trace.raw(0, item).items() if value > 0]
        text = f"no source has it among its best; raw scores: {', '.join(raw)}" if raw else "no source has an opinion of it"
        return Absence("not_nominated", f"{text}; {trace.candidates.valid[0].sum():,} candidates were ranked")
    return _outranked(trace, item)


def _filtered(engine: Engine, trace: Trace, item: int, name: str, *, is_described: bool) -> Absence:
    catalogue, valid_s = trace.context.catalogue, trace.context.valid_s
    if name == "available":
        why = "its record says that it is not available" if is_described else "it was removed from the items topic"
        return Absence("unavailable", why)
    if name == "published":
        return Absence("not_yet_published", f"it is published at {_utc(int(catalogue.published_s[item]))}; it is {_utc(valid_s)}")
    if name == "expired":
        return Absence("expired", f"it expired at {_utc(int(catalogue.expires_s[item]))}; it is {_utc(valid_s)}")
    if name == "seen":
        return _seen(trace, item)
    if name == "resting":
        return _resting(trace, item)
    if name == Nominator.name:
        return _denied(engine, trace, item)
    return Absence("filtered", f"the filter {name} keeps it off")


def _seen(trace: Trace, item: int) -> Absence:
    until_s = trace.off_until_s(0, item)
    back = "it does not come back (touch policy)" if until_s is None else f"it comes back at {_utc(until_s)} of event time (touch policy)"
    return Absence("seen", f"the user touched it: {back}")


def _resting(trace: Trace, item: int) -> Absence:
    table, cap = trace.context.table.shown, trace.context.options.frequency_cap
    assert table is not None and cap is not None, "items rest"
    shown = counts_of(table, trace.users.slots[:1], np.array([[item]], np.int64), trace.context.n_items)
    back = _utc(int(shown.shown_s[0, 0]) + cap.rest_s)
    return Absence("resting", f"it was shown {shown.counts[0, 0]} times without being chosen, and rests until {back} of event time")


def _denied(engine: Engine, trace: Trace, item: int) -> Absence:
    rules, effects = engine.rules, trace.context.effects
    assert rules is not None and effects is not None, "there are rules"
    for rule, matches in zip(rules.rules, effects.matches, strict=True):
        if matches is None or rule.action not in ("allow", "deny"):
            continue
        if rule.action == "deny" and matches[item]:
            return Absence("denied", f"rule {rule.name} denies it")
        if rule.action == "allow" and not matches[item]:
            return Absence("denied", f"rule {rule.name} does not allow it")
    return Absence("denied", "a rule keeps it off")


def _outranked(trace: Trace, item: int) -> Absence:
    """Say which step left an item behind the last place, or that none ever had it before."""
    places, size = trace.places(0, item), trace.context.options.size
    before = "the ranker"
    was_listed = False
    for name, place in places:
        is_listed = place is not None and place <= size
        if was_listed and not is_listed:
            where = "out of the candidates" if place is None else f"to place {place}"
            return Absence("pushed_out", f"{name} moved it {where}, behind the last place ({size}); {before} had it on the list")
        before, was_listed = ("the ranker" if name == RANKED else name), is_listed
    if was_listed:
        return Absence("pushed_out", f"it was left out after {before}")
    place, score = trace.ranked_place(0, item), trace.score(0, item)
    if place is not None and place <= size:  # of all candidates; a ranker may look at the best of them only
        return Absence("ranked_below", f"it is not among the candidates that the ranker looks at again; of all, it would rank {place}")
    last = np.flatnonzero(trace.ranked.valid[0])[:size][-1]
    lacks = float(trace.ranked.scores[0, last]) - (0.0 if score is None else score)
    return Absence("ranked_below", f"it is ranked {place}, behind the last place ({size}); its score lacks {lacks:.4f} to that one")


def _utc(at_s: int) -> str:
    if at_s == UNKNOWN_S:
        return "an unknown time"
    try:
        return dt.datetime.fromtimestamp(at_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(at_s)
