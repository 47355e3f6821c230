"""The state that lists are made from, at one moment, and the users they are for.

Shapes: U users, R recent interactions, N items, H columns of histories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import Catalogue
from recsys.lists import touch_policy_kernel
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.policies.options import NO_POLICY, PolicyOptions
from recsys.lists.reading import CooccurrenceReading, Recency, Recent
from recsys.lists.recipe import Recipe
from recsys.lists.row_options import RowSpec
from recsys.lists.rule_effects import RuleEffects
from recsys.lists.serving import ServingModel
from recsys.lists.shown import FrequencyCap, ShownCounts, ShownItems, counts_of, resting, shown_items
from recsys.lists.touch_policy import TouchPolicy
from recsys.lists.touch_policy_kernel import Entries
from recsys.state import shown_kernel
from recsys.state.neighbours import Neighbours
from recsys.state.popularity import Popularity
from recsys.state.user_table import UserTable

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
T = TypeVar("T")
Situation = Mapping[str, bool | int | float | str]
"""Where and when a list is read, by names as in the `context` of events: the hour, the device."""
EFFECTS = "rules.effects"
ROW_RANKINGS = "rows.rankings"
UNSHARED = frozenset(("shared", "listable", "rankings", ROW_RANKINGS))
"""Keys of what depends on which items rules let on lists."""


class Seen(NamedTuple):
    """Items that stay off users' lists: the last `lengths[slot]` columns of `histories[slot]` (C, H) for the `slots` (U,), and those in
    `older`, of which user u's end at `older_ends[u]`. `Users.seen` puts all of them into `older`."""

    histories: U32
    slots: I64
    lengths: I32
    older: U32
    older_ends: I64


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Configuration of lists; as in `EngineConfig`. `weights` by source name."""

    weights: Mapping[str, float]
    reading: CooccurrenceReading
    content_recency: Recency
    wide_recency: Recency
    recent_items: int
    new_s: float
    size: int
    exploration_slots: int
    seed: int
    touch_policy: TouchPolicy
    recipe: Recipe | None = None
    """None: the default recipe."""
    ranker: LearnedRanker | None = None
    """None: the recipe alone."""
    policy: PolicyOptions = NO_POLICY
    frequency_cap: FrequencyCap | None = None
    placement: str = "list"
    """Kind of the lists: rules may be for some kinds only."""
    rows: tuple[RowSpec, ...] = ()
    """Rows of a page beside each list."""
    reasons: bool = False
    """Say of each item what carried it."""
    bought_types: int = 0
    """Bit c is set for an event type c by which an item is bought."""
    most_of_category: int = 10
    """Most of the first ten places with one first category, where there are candidates of others; 10: all."""

    @property
    def bought(self) -> NDArray[np.bool_]:
        """Return which types of entries are bought, (256,)."""
        return np.array([self.bought_types >> code & 1 for code in range(64)] + [0] * 192, np.bool_)

    def with_recipe(self, recipe: Recipe | None) -> ListOptions:
        """Return the options with the constants that a recipe was trained with; without one, as they are."""
        if recipe is None:
            return replace(self, recipe=None)
        return replace(
            self,
            recipe=recipe,
            reading=recipe.settings.reading(self.reading),
            content_recency=recipe.settings.content,
            wide_recency=recipe.settings.wide,
        )


@dataclass(frozen=True, slots=True, eq=False)
class ListContext:
    """The state that all lists made at one moment share. `now_s` is event time: trends and ages are measured from it. `valid_s` is the
    reader's time: only items that are published and not expired by then are listed. `is_large`: candidates come from indexes."""

    options: ListOptions
    now_s: int
    valid_s: int
    table: UserTable
    neighbours: Neighbours
    popularity: Popularity
    catalogue: Catalogue
    models: Mapping[str, ServingModel]
    is_large: bool
    _made: dict[str, object] = field(default_factory=dict)
    _own: dict[str, object] | None = None
    """What this context does not share with the one that it was derived from."""

    @property
    def effects(self) -> RuleEffects | None:
        """Return what rules do to lists of this context; None without rules."""
        return None if self._own is None else cast(RuleEffects, self._own[EFFECTS])

    def under(self, effects: RuleEffects) -> ListContext:
        """Return this context for lists that these rules change. What does not depend on rules is shared."""
        return replace(self, _own={EFFECTS: effects})

    @property
    def n_items(self) -> int:
        return self.catalogue.n_items

    def once(self, key: str, make: Callable[[], T]) -> T:
        """Return what `make` returned when the key was first used with this context."""
        made = self._made if self._own is None or key not in UNSHARED else self._own
        if key not in made:
            made[key] = make()
        return cast(T, made[key])

    def scores_all(self, numbers: I64) -> bool:
        """Return True where it is cheaper to score all items once than `numbers` (U, C) one by one."""
        return not self.is_large and numbers.size >= self.n_items

    def of_items(self, key: str, numbers: I64, score: Callable[[I64], F32]) -> F32:
        """Return scores of the items `numbers` (U, C) that are the same for all users, by `score`, which takes numbers of any shape: of all
        items once, kept by `key`, where that is cheaper."""
        if not self.scores_all(numbers):
            return score(numbers)
        found: F32 = self.once(key, lambda: score(np.arange(self.n_items)))[numbers]
        return found

    def users(
        self,
        slots: I64,
        vectors: Mapping[str, F32],
        preferred: Mapping[int, Sequence[str]] | None = None,
        seeds: I64 | None = None,
        ids: Sequence[str] | None = None,
        previous: I64 | None = None,
        situations: Sequence[Situation] | None = None,
    ) -> Users:
        """Return the users in `slots` (U,) with their newest interactions, and the items of their lists before, if they are known."""
        recent = Recent.of(*self.table.newest(slots, self.options.recent_items), self.table.lengths[slots])
        if seeds is None:
            seeds = np.full(len(slots), self.options.seed, np.int64)
        return Users(slots, recent, vectors, preferred or {}, seeds, ids, previous, situations)


@dataclass(frozen=True, slots=True, eq=False)
class Users:
    """Users listed together: `slots` (U,) of the user table, newest interactions, vectors (U, D) by model kind, the categories that user u
    `preferred` (used where there is no history), `seeds` (U,) that repeat a draw, `ids` (U,) if rules name them, the items of the lists
    that they have, `previous` (U, K), −1 for none, and the `situations` (U,) that lists on request are made for, None for published lists,
    of which nobody knows where they will be read."""

    slots: I64
    recent: Recent
    vectors: Mapping[str, F32]
    preferred: Mapping[int, Sequence[str]]
    seeds: I64
    ids: Sequence[str] | None = None
    previous: I64 | None = None
    situations: Sequence[Situation] | None = None
    _made: dict[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.slots)

    def once(self, key: str, make: Callable[[], T]) -> T:
        """Return what `make` returned when the key was first used with these users."""
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])

    def gaps_s(self, context: ListContext) -> F32:
        """Return the time from each user's newest interaction until now, in seconds, (U,); 0 for a user without any."""
        return context.table.gaps_s(self.slots, context.now_s)

    def part(self, rows: slice) -> Users:
        """Return some of the users; `rows` has a start and an end."""
        if rows.start == 0 and rows.stop >= len(self):
            return self
        return Users(
            self.slots[rows],
            self.recent.part(rows),
            {kind: vectors[rows] for kind, vectors in self.vectors.items()},
            {row - rows.start: named for row, named in self.preferred.items() if rows.start <= row < rows.stop},
            self.seeds[rows],
            None if self.ids is None else self.ids[rows],
            None if self.previous is None else self.previous[rows],
            None if self.situations is None else self.situations[rows],
        )

    def chosen(self, rows: I64) -> Users:
        """Return the users of some rows (n,), ascending."""
        if len(rows) == len(self):
            return self
        return Users(
            self.slots[rows],
            self.recent.part(rows),
            {kind: vectors[rows] for kind, vectors in self.vectors.items()},
            {place: self.preferred[row] for place, row in enumerate(rows.tolist()) if row in self.preferred} if self.preferred else {},
            self.seeds[rows],
            None if self.ids is None else [self.ids[row] for row in rows.tolist()],
            None if self.previous is None else self.previous[rows],
            None if self.situations is None else [self.situations[row] for row in rows.tolist()],
        )

    def entries(self, context: ListContext) -> Entries:
        """Return the entries of the users' histories."""
        table = context.table
        columns = (table.items, table.times_s, table.first_s, table.weights, table.types, table.counts)
        return Entries(*columns, table.lengths, self.slots)

    def seen(self, context: ListContext) -> Seen:
        """Return the items that the touch policy keeps off the users' lists now, and those that left the history."""

        def gathered() -> Seen:
            table, policy = context.table, context.options.touch_policy
            older = [table.older[slot] for slot in self.slots.tolist()]
            older_ends = np.cumsum([len(some) for some in older], dtype=np.int64)
            joined = np.concatenate(older) if older else np.zeros(0, np.uint32)
            off, ends = np.empty(int(table.lengths[self.slots].sum()) + len(joined), np.uint32), np.empty(len(self), np.int64)
            groups = context.catalogue.touch_groups
            touch_policy_kernel.off_lists(self.entries(context), groups, policy.table, context.now_s, joined, older_ends, off, ends)
            return Seen(table.items, self.slots, np.zeros_like(table.lengths), off, ends)

        return self.once("seen", gathered)

    def off_lists(self, context: ListContext) -> Seen:
        """Return the items that stay off the users' lists: `seen`, and those that the frequency cap lets rest."""

        def gathered() -> Seen:
            seen, (items, ends) = self.seen(context), self.resting(context)
            off, off_ends = np.empty(len(seen.older) + len(items), np.uint32), np.empty(len(self), np.int64)
            shown_kernel.joined(seen.older, seen.older_ends, items, ends, off, off_ends)
            return seen._replace(older=off, older_ends=off_ends)

        is_capped = context.options.frequency_cap is not None and context.table.shown is not None
        return self.once("off_lists", gathered) if is_capped else self.seen(context)

    def resting(self, context: ListContext) -> tuple[U32, I64]:
        """Return the items that the frequency cap lets rest now, user after user, and where those of each user end, (U,)."""
        cap, table = context.options.frequency_cap, context.table.shown
        if cap is None or table is None:
            return np.zeros(0, np.uint32), np.zeros(len(self), np.int64)
        return self.once("resting", lambda: resting(table, self.slots, cap, context.now_s))

    def shown(self, context: ListContext) -> ShownItems | None:
        """Return what was shown to the users since they last chose it; None where nobody counts impressions."""
        table = context.table.shown
        return None if table is None else self.once("shown", lambda: shown_items(table, self.slots))

    def shown_counts(self, numbers: I64, context: ListContext) -> ShownCounts | None:
        """Return how often the candidates `numbers` (U, C), −1 for none, were shown to their user, and when last; None where nobody counts
        impressions."""
        table = context.table.shown
        return None if table is None else counts_of(table, self.slots, numbers, context.n_items)
