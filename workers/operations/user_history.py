"""The history of one user, folded event by event in plain Python, and what each event adds to rows of items.

The rules are those of `recsys.state.touches`; nothing of its code is shared but the weights of pairs by distance. Amounts are in units of
1/32 (popularity) and 1/64 (pairs).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from recsys.engine import PAIR_WEIGHTS
from recsys.state.user_table import WEIGHT_UNITS
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.touch_policy import kept_types, touch_policy

DAY_S = 86_400
BUDGET_DAYS = 10
UNIT_OF_PRODUCTS = WEIGHT_UNITS * WEIGHT_UNITS
MOST_TOUCHES = 255

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True)
class HistoryRules:
    """Holds what a history depends on: its lengths, the bounds of what one user adds, and by window of popularity in how
    many seconds a user counts once for an item (0: by visits)."""

    history_length: int
    seen_length: int
    epoch_s: int
    session_s: int
    pairings: int
    touches: int
    partner_touches: int
    budget: int
    periods_s: Sequence[int]
    kept_types: int = -1
    """Bit c is set for an event type c whose items are remembered when they leave the history."""

    @classmethod
    def of(cls, settings: Settings, periods_s: Sequence[int], *, remembers: bool = True) -> HistoryRules:
        """Return the rules of these settings; without `remembers` what leaves a history is forgotten."""
        state = settings.state
        return cls(
            state.history_length,
            state.seen_length if remembers else 0,
            layout_of(settings).epoch_s,
            state.session_s,
            state.pairings_per_epoch,
            state.touches_per_epoch,
            state.partner_touches,
            state.user_budget,
            periods_s,
            kept_types(touch_policy(settings), settings.weights),
        )


class Pair(NamedTuple, Generic[Item]):
    """Two items of one user, and what they add: `forward` to the row of what came first, `backward` to the other."""

    came_first: Item
    came_then: Item
    forward: int
    backward: int


class Added(NamedTuple, Generic[Item]):
    """Holds what an event adds: the weight that counts in each window of popularity, and pairs."""

    popularity: Sequence[int]
    pairs: Sequence[Pair[Item]]


@dataclass(slots=True)
class UserHistory(Generic[Item]):
    """The entries of one user, one per item, in order of their last touch; a column for each fact. `older` left the history."""

    items: list[Item] = field(default_factory=list)
    last_s: array[int] = field(default_factory=lambda: array("I"))
    first_s: array[int] = field(default_factory=lambda: array("I"))
    units: array[int] = field(default_factory=lambda: array("b"))
    types: array[int] = field(default_factory=lambda: array("B"))
    touches: array[int] = field(default_factory=lambda: array("B"))
    visits: array[int] = field(default_factory=lambda: array("B"))
    spent: int = 0
    older: list[Item] = field(default_factory=list)

    def touch(self, item: Item, at_s: int, units: int, kind: int, rules: HistoryRules) -> Added[Item]:
        """Apply the next event, of weight `units` and the type code `kind`; return what it adds to rows of items."""
        place = bisect_right(self.last_s, at_s)
        where = self.items.index(item) if item in self.items else None
        if self.last_s:
            days = max(at_s // DAY_S - self.last_s[-1] // DAY_S, 0)
            self.spent = max(self.spent - max(rules.budget // BUDGET_DAYS, 1) * days, 0)
        is_full = len(self.items) == rules.history_length
        if where is None and is_full and place == 0:
            self._remember(item, kind, rules)
            return Added((), ())
        visits, goes_on = self._visits(where, at_s, rules)
        added: Added[Item] = Added((), ())
        if units > 0 and self.spent < rules.budget:
            most, pairs = max(rules.pairings, rules.touches), list[Pair[Item]]()
            grown = max(units - self.units[where], 0) if where is not None and self.units[where] > 0 and visits <= most else 0
            if not goes_on and visits < rules.pairings:
                behind = bisect_right(self.last_s, at_s + rules.session_s) if place < len(self.items) else place
                pairs = self._pairs(item, units, range(place), range(place, behind), rules)
            elif where is not None and grown:
                pairs = self._pairs(item, grown, range(where), range(where, len(self.items)), rules)
            added = Added(self._popularity(where, at_s, units, grown, visits < rules.touches and not goes_on, rules), pairs)
            self.spent += any(added.popularity) or any(pair.forward or pair.backward for pair in pairs)
            if not goes_on:
                has_flipped = where is not None and self.units[where] < 0
                visits = max(visits, min(visits + 1, most + has_flipped))
        if where is None:
            if is_full:
                self._remember(self.items[0], self.types[0], rules)
                self._delete(0)
                place -= 1
            self._insert(place, item, at_s, at_s, units, kind, 1, visits)
        else:
            self._touch_again(where, place, at_s, units, kind, visits)
        return added

    def entry(self, place: int) -> tuple[Item, int, int, int, int, int, int]:
        """Return item, newest and first second, weight, type, touches and visits of an entry."""
        last_s, first_s, units, kind, touches, visits = (column[place] for column in self._columns())
        return self.items[place], last_s, first_s, units, kind, touches, visits

    def _visits(self, where: int | None, at_s: int, rules: HistoryRules) -> tuple[int, bool]:
        """Return how many sessions were counted in the event's epoch, and whether the event belongs to the last of them."""
        if where is None:
            return 0, False
        last_s = self.last_s[where]
        goes_on = self.units[where] > 0 and abs(at_s - last_s) <= rules.session_s
        return (int(goes_on) if at_s // rules.epoch_s > last_s // rules.epoch_s else self.visits[where]), goes_on

    def _popularity(self, where: int | None, at_s: int, units: int, grown: int, may_repeat: bool, rules: HistoryRules) -> list[int]:
        if where is None:
            return [units] * len(rules.periods_s)
        last_s, held, amounts = self.last_s[where], self.units[where], []
        for period_s in rules.periods_s:
            behind = at_s // period_s - last_s // period_s if period_s else 0
            if behind > 0 or (may_repeat and (not period_s or behind < 0 or held <= 0)):
                amounts.append(units)
            else:
                amounts.append(grown if behind == 0 else 0)
        return amounts

    def _pairs(self, item: Item, units: int, before: range, behind: range, rules: HistoryRules) -> list[Pair[Item]]:
        """Return the pairs of `units` with the entries of other items that may be partners, the nearest ones on both sides."""

        def partners(places: Sequence[int]) -> list[int]:
            found = [at for at in places if self.units[at] > 0 and self.items[at] != item and self.touches[at] <= rules.partner_touches]
            return found[: PAIR_WEIGHTS.window]

        came_first, came_then = partners(before[::-1]), partners(behind)
        pairs = [Pair(self.items[at], item, *_amounts(self.units[at] * units, distance)) for distance, at in enumerate(came_first)]
        return pairs + [Pair(item, self.items[at], *_amounts(self.units[at] * units, distance)) for distance, at in enumerate(came_then)]

    def _touch_again(self, where: int, place: int, at_s: int, units: int, kind: int, visits: int) -> None:
        last_s, held, held_kind, item = self.last_s[where], self.units[where], self.types[where], self.items[where]
        is_late, is_stronger = at_s < last_s, abs(units) > abs(held)
        changes = is_stronger or (not is_late and abs(units) == abs(held)) if (units > 0) == (held > 0) else not is_late
        if not changes:
            units, kind = held, held_kind
        first_s, touches = min(self.first_s[where], at_s), min(self.touches[where] + 1, MOST_TOUCHES)
        self._delete(where)
        self._insert(where if is_late else place - 1, item, max(last_s, at_s), first_s, units, kind, touches, visits)

    def _insert(self, place: int, item: Item, *facts: int) -> None:
        self.items.insert(place, item)
        for column, fact in zip(self._columns(), facts, strict=True):
            column.insert(place, fact)

    def _delete(self, place: int) -> None:
        del self.items[place]
        for column in self._columns():
            del column[place]

    def _columns(self) -> tuple[array[int], ...]:
        return self.last_s, self.first_s, self.units, self.types, self.touches, self.visits

    def _remember(self, item: Item, kind: int, rules: HistoryRules) -> None:
        if not (rules.kept_types >> kind) & 1:
            return
        if item in self.older:
            self.older.remove(item)
        self.older.append(item)
        del self.older[: max(0, len(self.older) - rules.seen_length)]


def _amounts(product: int, distance: int) -> tuple[int, int]:
    """Return a pair's weights forward and backward in units of 1/64, from the product of two weights in units of 1/32."""
    half = UNIT_OF_PRODUCTS // 2
    forward, backward = PAIR_WEIGHTS.forward[distance], PAIR_WEIGHTS.backward[distance]
    return (product * forward + half) // UNIT_OF_PRODUCTS, (product * backward + half) // UNIT_OF_PRODUCTS
