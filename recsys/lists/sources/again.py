"""Items of a user's own that are worth repeating."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.lists import touch_policy_kernel
from recsys.lists.context import ListContext, Users
from recsys.lists.scratch import Scratch
from recsys.lists.sources.base import Source

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class AgainSource(Source):
    """Scores an item that the user touched before by the user's own rhythm: how often, how long ago, and at what time of day.

    What the touch policy keeps off lists is not listed, whatever its score. All other items have no score.
    """

    name = "again"
    reason = "again"
    size = 32
    is_sparse = True

    def __init__(self) -> None:
        self._by_item = Scratch(np.float32)

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        numbers = np.empty((len(users), size), np.int64)
        touch_policy_kernel.best_again(users.entries(context), _scores(users, context), numbers)
        return numbers

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        if not _scores(users, context).any():
            return np.zeros(numbers.shape, np.float32)
        raw = np.empty(numbers.shape, np.float32)
        with self._by_item.borrowed(context.n_items) as by_item:
            touch_policy_kernel.again(users.entries(context), _scores(users, context), numbers, by_item, raw)
        return raw

    def explain(self, users: Users, items: I64, scale: F32, context: ListContext, added: F32) -> None:
        if not scale.any():
            return
        raw = self.score(users, items, context) * scale[:, None]
        added += np.where(items[:, :, None] == users.recent.items[:, None, :], raw[:, :, None], np.float32(0))


def _scores(users: Users, context: ListContext) -> F32:
    """Return the scores of the entries of the users' histories, (U, H), 0 in unused columns."""

    def made() -> F32:
        scores = np.zeros((len(users), context.table.history_length), np.float32)
        seen = users.seen(context)
        if not len(users) or seen.older_ends[-1] == len(seen.older):  # the room for items that are kept off is full: all of them are
            return scores
        groups, table = context.catalogue.touch_groups[: context.n_items], context.options.touch_policy.table
        touch_policy_kernel.again_scores(users.entries(context), groups, table, context.now_s, scores)
        return scores

    return users.once("again", made)
