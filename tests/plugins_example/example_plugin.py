"""The plugin of `docs/extending.md`: a source, a filter, a ranker and a policy stage."""

import numpy as np

from recsys.lists.filters import Filter
from recsys.lists.sources.base import Source

DAY_S = 86_400


class Evergreen(Source):
    """Items that most users have chosen since the beginning."""

    name = "evergreen"
    size = 32

    def nominate(self, users, context, size):
        def made():
            chosen = context.popularity.all_time[: context.n_items]
            return np.argsort(-chosen, kind="stable")[:size]

        best = context.once("evergreen.best", made)
        return np.broadcast_to(best, (len(users), len(best)))

    def score(self, users, numbers, context):
        return np.log1p(context.popularity.all_time[numbers])


class Curfew(Filter):
    """Shows new users only what somebody has chosen, and nobody what was published within the last hour."""

    def shared(self, context):
        published_s = context.catalogue.published_s[: context.n_items]
        return published_s <= context.now_s - 3_600

    def personal(self, numbers, users, context):
        is_new = context.table.lengths[users.slots] < 3
        return ~is_new[:, None] | (context.popularity.all_time[numbers] > 0)


class Balanced:
    """Adds up the square roots, so that no source decides alone."""

    def score(self, features, valid):
        return self.parts(features).sum(axis=2)

    def parts(self, features):
        return np.sqrt(np.maximum(features.values, 0))


class FewNew:
    """Lists at most two items that were published within a day."""

    def __call__(self, candidates, size, users, context):
        is_new = candidates.valid & (context.catalogue.published_s[candidates.numbers] > context.now_s - DAY_S)
        return candidates.only(~is_new | (np.cumsum(is_new, axis=1) <= 2))


def register(registry):
    registry.sources.add("evergreen", Evergreen)
    registry.filters.add("curfew", Curfew)
    registry.rankers.add("balanced", Balanced)
    registry.policies.add("few_new", FewNew)
