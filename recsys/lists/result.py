"""Finished lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.lists.reason_kinds import Reasons
from recsys.lists.row_options import RowSpec

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of the pages of U users, as the B `specs` say: `items` and `scores` (U, T) of all rows one after another, −1 and −∞ where there
    is nothing; an empty row is left out. `about` (U, B) are the items that rows are about, and `categories` (U, B) the numbers of their
    categories, −1 for none."""

    specs: tuple[RowSpec, ...]
    items: I64
    scores: F32
    about: I64
    categories: I64

    @classmethod
    def empty(cls, specs: tuple[RowSpec, ...], n_users: int) -> Rows:
        """Return rows that show nothing."""
        n_places = sum(spec.size for spec in specs)
        none = np.full((n_users, len(specs)), -1, np.int64)
        items, scores = np.full((n_users, n_places), -1, np.int64), np.full((n_users, n_places), -np.inf, np.float32)
        return cls(specs, items, scores, none, none.copy())

    def at(self, rows: I64) -> Rows:
        """Return the pages of some users, in that order."""
        return Rows(self.specs, self.items[rows], self.scores[rows], self.about[rows], self.categories[rows])

    @classmethod
    def joined(cls, blocks: Sequence[Rows]) -> Rows | None:
        """Return the users of all blocks, one after another; None without blocks."""
        if not blocks:
            return None
        names = ("items", "scores", "about", "categories")
        return cls(blocks[0].specs, *(np.concatenate([getattr(block, name) for block in blocks]) for name in names))


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of U users, K items each: numbers and scores (U, K), −1 and −∞ where there was nothing left to list; propensities (U, K); per
    source its part of the score (U, K); `because` (U, K, 2) item numbers that contributed most, −1 for none; `rules` (U, K) bits of the
    rules that moved an item, None without rules; `rows` of the same users, None where there are none; `reasons`, None where these are
    off."""

    items: I64
    scores: F32
    propensities: F32
    contributions: dict[str, F32]
    because: I64
    rules: I64 | None = None
    rows: Rows | None = None
    reasons: Reasons | None = None

    @property
    def shown_items(self) -> I64:
        """Return the items of lists and rows, −1 for none, (U, K or more); an item may be there twice."""
        return self.items if self.rows is None else np.concatenate((self.items, self.rows.items), axis=1)

    @classmethod
    def joined(cls, blocks: Sequence[Lists]) -> Lists:
        """Return the users of all blocks, one after another."""
        if len(blocks) == 1:
            return blocks[0]
        marks = [b.rules for b in blocks if b.rules is not None]
        reasons = [b.reasons for b in blocks if b.reasons is not None]
        return cls(
            np.concatenate([b.items for b in blocks]),
            np.concatenate([b.scores for b in blocks]),
            np.concatenate([b.propensities for b in blocks]),
            {name: np.concatenate([b.contributions[name] for b in blocks]) for name in blocks[0].contributions},
            np.concatenate([b.because for b in blocks]),
            np.concatenate(marks) if marks else None,
            Rows.joined([b.rows for b in blocks if b.rows is not None]),
            Reasons.joined(reasons) if reasons else None,
        )

    def at(self, rows: I64) -> Lists:
        """Return the lists of some rows, in that order."""
        return Lists(
            self.items[rows],
            self.scores[rows],
            self.propensities[rows],
            {name: part[rows] for name, part in self.contributions.items()},
            self.because[rows],
            None if self.rules is None else self.rules[rows],
            None if self.rows is None else self.rows.at(rows),
            None if self.reasons is None else self.reasons.at(rows),
        )
