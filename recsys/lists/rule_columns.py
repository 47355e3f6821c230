"""Values of items and users that conditions of rules read. Shapes: N items, U users, R recent interactions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import UNKNOWN_S
from recsys.errors import RuleError
from recsys.lists.context import ListContext, Users
from recsys.rules.evaluate import Numbers, Sets, Texts
from recsys.rules.tree import Column
from recsys.state.held_texts import MISSING, HeldTexts
from recsys.state.user_attributes import HeldAttributes

I64 = NDArray[np.int64]
_NEVER_S = np.iinfo(np.int64).max
_DAY_S = 86_400.0


class ItemColumns:
    """The items of a context."""

    def __init__(self, context: ListContext) -> None:
        held = context.catalogue.held
        if held is None:
            raise RuleError("this catalogue holds nothing for rules: make the engine with the rules that its lists follow")
        self._catalogue, self._held, self._now_s = context.catalogue, held, context.now_s
        self.n = context.n_items

    def texts(self, column: Column) -> Texts:
        held = self._held
        if column.is_attribute:
            return self._of(held.texts[column.name])
        if column.name == "id":
            n_known = min(len(held.ids), self.n)
            codes = np.where(np.arange(self.n) < n_known, np.arange(self.n), MISSING)
            return Texts(codes, held.ids, held.id_tables)
        found = held.categories if column.name == "categories" else held.titles
        assert found is not None, "wanted"
        return self._of(found)

    def _of(self, held: HeldTexts) -> Texts:
        return Texts(held.codes[: self.n], held.values, held.tables)

    def numbers(self, column: Column) -> Numbers:
        if column.is_attribute:
            values = self._held.numbers[column.name][: self.n]
            return Numbers(values, ~np.isnan(values))
        times_s = (self._catalogue.expires_s if column.name == "expires" else self._catalogue.published_s)[: self.n]
        known = times_s != (_NEVER_S if column.name == "expires" else UNKNOWN_S)
        if column.name == "age_days":
            return Numbers(np.where(known, self._now_s - times_s, 0) / _DAY_S, known)
        return Numbers(times_s.astype(np.float64), known)


class UserColumns:
    """The users of a batch."""

    def __init__(self, users: Users, context: ListContext) -> None:
        self._users, self._context = users, context
        self.n = len(users)

    def texts(self, column: Column) -> Texts | Sets:
        users, held = self._users, self._context.catalogue.held
        if column.is_attribute:
            of_slots = self._attributes().texts[column.name]
            return Texts(of_slots.codes[users.slots], of_slots.values, of_slots.tables)
        if column.name == "id":
            codes = np.full(self.n, MISSING) if users.ids is None else np.arange(self.n)
            return Texts(codes, users.ids or ())
        assert held is not None and held.categories is not None, "wanted"
        liked = users.recent.strengths > 0
        texts = Texts(held.categories.codes[users.recent.items], held.categories.values, held.categories.tables)
        has_liked: NDArray[np.bool_] = np.logical_or.reduce(liked, axis=1)
        return Sets(texts, liked, {row: named for row, named in users.preferred.items() if not has_liked[row]})

    def _attributes(self) -> HeldAttributes:
        profiles = self._context.table.profiles
        if profiles is None or profiles.attributes is None:
            raise RuleError("this engine holds no profiles for rules: make it with the rules that its lists follow")
        return profiles.attributes

    def numbers(self, column: Column) -> Numbers:
        if column.is_attribute:
            values = self._attributes().numbers[column.name][self._users.slots]
            return Numbers(values, ~np.isnan(values))
        lengths = self._context.table.lengths[self._users.slots]
        if column.name == "history_size":
            return Numbers(lengths.astype(np.float64), np.ones(self.n, np.bool_))
        return Numbers(self._users.gaps_s(self._context).astype(np.float64) / _DAY_S, lengths > 0)
