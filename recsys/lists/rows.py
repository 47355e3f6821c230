"""Rows of a page beside a list: what is popular now, what follows from one liked item, what is new in a category, and so on.

A page never shows an item twice: rows before take it. All rows hold what lists hold: filters, rules, the touch policy.

Shapes: U users, C candidates, K places of the list, B rows, T places of all rows together, M nominations of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.labels import CATEGORY
from recsys.lists import row_rankings, rows_kernel
from recsys.lists.candidates import Candidates
from recsys.lists.candidates_kernel import Listable
from recsys.lists.context import ListContext, Users
from recsys.lists.filters import Filter
from recsys.lists.result import Rows
from recsys.lists.row_options import OF_CATEGORIES, RowSpec
from recsys.lists.row_rankings import Categories, Order
from recsys.lists.rows_kernel import Liked, Orders, Shelf
from recsys.lists.scratch import Scratch
from recsys.lists.sources.again import AgainSource
from recsys.lists.sources.cooccurrence import CooccurrenceSource

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

LAST_LIKED = 5
"""Liked items, the newest ones, of which a row `because` names one."""
SPARE = 200
"""Further items that follow from one, for filters that look at each user's items."""
_marks = Scratch(np.int8)
_sums = Scratch(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Gathers what rows are made from: the users' `listed` items, ranked `candidates` of which the list is a part (None unless some row is
    about a named category), what may be `listable`, and filters that look at each user's items."""

    users: Users
    listed: Candidates
    candidates: Candidates | None
    listable: Listable
    personal: Sequence[Filter]


class RowMaker:
    """Makes rows by the specifications of a context's options."""

    def __init__(self) -> None:
        self._categories = Categories()
        self._again, self._cooccurrence = AgainSource(), CooccurrenceSource()

    def prepare(self, context: ListContext) -> None:
        """Compute what all users share, so that lists may be made in several threads."""
        if context.options.rows:
            row_rankings.prepare(context)

    def rows(self, page: Page, context: ListContext) -> Rows:
        """Return the rows of each user's page."""
        specs, n_users = context.options.rows, len(page.users)
        sizes = np.array([spec.size for spec in specs], np.int64)
        firsts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        rows = Rows.empty(specs, n_users)
        orders, row_of = list[Order](), list[int]()
        for at, spec in enumerate(specs):
            for order in self._orders(at, spec, page, context, rows, int(firsts[at] + sizes[at])):
                orders.append(self._filtered(order, page, context))
                row_of.append(at)
        shelf = Shelf(sizes, np.array([spec.least for spec in specs], np.int64), firsts)
        seen, joined = page.users.off_lists(context), _joined(orders, row_of, n_users)
        with _marks.borrowed(context.n_items) as marks:
            rows_kernel.place(joined, shelf, seen, page.listable, marks, rows.items, rows.scores)
        return rows

    def _orders(self, at: int, spec: RowSpec, page: Page, context: ListContext, rows: Rows, wanted: int) -> list[Order]:
        """Return what row `at` shows, the first order first, and note what it is about; `wanted` items at most are taken from earlier rows
        and this one."""
        users, n_users = page.users, len(page.users)
        if spec.kind in OF_CATEGORIES:
            rows.categories[:, at] = self._category(spec, users, context)
        match spec.kind:
            case "for_you":
                return [Order.own(page.listed.numbers, page.listed.scores)]
            case "popular_now":
                return [Order.shared(*row_rankings.popular(context, page.listable), n_users)]
            case "again":
                return [self._worth_repeating(users, context)]
            case "because":
                return [self._followers(at, spec, page, context, rows, wanted)]
            case "new_in":
                return [self._categories.newest(context, rows.categories[:, at])]
            case "category":
                return self._of_category(spec, page, context)

    def _category(self, spec: RowSpec, users: Users, context: ListContext) -> I64:
        """Return the number of the category that a row is about, (U,), −1 for none."""
        labels = context.catalogue.labels[CATEGORY]
        if spec.category is not None:
            return np.full(len(users), labels.number_of(spec.category), np.int64)

        def made() -> I64:
            found = np.empty(len(users), np.int64)
            with _sums.borrowed(max(labels.bound, 1)) as sums:
                rows_kernel.favourites(users.entries(context), labels.of, labels.sets, sums, found)
            for row, named in users.preferred.items():
                if found[row] < 0:
                    found[row] = next((number for name in named if (number := labels.number_of(name)) >= 0), -1)
            return found

        return users.once("rows.favourites", made)

    def _worth_repeating(self, users: Users, context: ListContext) -> Order:
        numbers = self._again.nominate(users, context, context.table.history_length)
        scores = self._again.score(users, numbers, context)
        return Order.own(numbers, scores)

    def _followers(self, at: int, spec: RowSpec, page: Page, context: ListContext, rows: Rows, wanted: int) -> Order:
        users, recent = page.users, page.users.recent
        wanted += SPARE if page.personal else 0
        numbers, scores = np.empty((len(users), wanted), np.int64), np.empty((len(users), wanted), np.float32)
        about = np.empty(len(users), np.int64)
        liked = Liked(recent.items, recent.strengths, recent.places, LAST_LIKED)
        used, of_rows = np.ascontiguousarray(rows.about[:, :at]), self._cooccurrence.rows(users, context)
        with _marks.borrowed(context.n_items) as marks:
            rows_kernel.follow(of_rows, liked, used, spec.least, users.off_lists(context), page.listable, marks, numbers, scores, about)
        rows.about[:, at] = about
        return Order.own(numbers, scores)

    def _of_category(self, spec: RowSpec, page: Page, context: ListContext) -> list[Order]:
        """Return the ranked candidates of a category, and behind them its most popular items, whose score is 0."""
        assert spec.category is not None and page.candidates is not None
        inside = np.zeros(context.n_items + 1, np.bool_)  # the last one is for −1
        inside[self._categories.members(context, spec.category)] = True
        ranked = np.where(inside[page.candidates.numbers], page.candidates.numbers, -1)
        others = self._categories.popular(context, page.listable, spec.category)
        return [
            Order.own(ranked, page.candidates.scores),
            Order.shared(others, np.zeros(len(others), np.float32), len(page.users)),
        ]

    def _filtered(self, order: Order, page: Page, context: ListContext) -> Order:
        """Return the order without what filters of plugins keep from its user."""
        if not page.personal:
            return order
        numbers, scores = order.written_out(len(page.users))
        for one in page.personal:
            kept = one.personal(numbers, page.users, context)
            numbers = numbers if kept is None else np.where(kept, numbers, -1)
        return Order.own(numbers, scores)


def _joined(orders: Sequence[Order], row_of: Sequence[int], n_users: int) -> Orders:
    """Return the orders one after another."""
    begins = np.cumsum([0, *(len(order.numbers) for order in orders)])
    none = [np.zeros((0, n_users), np.int64)]
    return Orders(
        np.concatenate([np.zeros(0, np.int64), *(order.numbers for order in orders)]),
        np.concatenate([np.zeros(0, np.float32), *(order.scores for order in orders)]),
        np.concatenate([*none, *((order.starts + begin)[None] for order, begin in zip(orders, begins, strict=False))]),
        np.concatenate([*none, *((order.ends + begin)[None] for order, begin in zip(orders, begins, strict=False))]),
        np.array(row_of, np.int64),
    )
