"""Makes lists: sources ▸ candidates ▸ filters ▸ features ▸ ranker ▸ policy ▸ reasons.

Shapes: U users, C candidates, P ranked candidates, K places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from recsys.lists import exact_scan, indexed
from recsys.lists.candidates import Candidates, best, flat
from recsys.lists.context import ListContext, Users
from recsys.lists.features import FeatureMaker, SourceParts
from recsys.lists.filters import is_personal
from recsys.lists.policy import EXPLORED, Exploration
from recsys.lists.ranker import ByRecipe
from recsys.lists.reasons import because
from recsys.lists.registry import Registry
from recsys.lists.result import Lists
from recsys.lists.sources.base import Source
from recsys.lists.sources.models import ModelSource

BLOCK_USERS = 512
"""Users listed at once: they share the work on the vectors that several of them scan. Up to 0.8 MB an array of candidates' scores."""
SPARE = 200
"""Candidates beyond a list's size that plugins have to choose from. Without plugins there are none: they cost time."""
_BEFORE_MODELS = ("cooccurrence", "content")
"""Sources that stand before the models in a list's record; all others stand behind them."""


class ListMaker:
    """Makes lists with the parts of a registry, which it makes once."""

    def __init__(self, registry: Registry) -> None:
        self._sources = registry.sources.make()
        self._filters = list(registry.filters.make().values())
        self._features: FeatureMaker = SourceParts()
        self._ranker = [*registry.rankers.make().values()][-1]
        stages = registry.policies.make()
        self._policy = sorted(stages.values(), key=lambda stage: isinstance(stage, Exploration))  # which draws from what others leave
        self._personal = [one for one in self._filters if is_personal(one)]
        needs_spare = bool(self._personal) or not isinstance(self._ranker, ByRecipe) or len(stages) > 1
        self._spare = SPARE if needs_spare else 0

    def prepare(self, context: ListContext) -> None:
        """Compute what all lists of a context share, so that they may be made in several threads."""
        sources = self._active(context, ())
        for source in sources:
            source.prepare(context)
        if context.is_large:
            indexed.prepare(sources, self._filters, context)
        else:
            exact_scan.prepare(sources, self._filters, context)

    def lists(self, users: Users, context: ListContext) -> Lists:
        """Return a list for each user."""
        blocks = [slice(start, min(start + BLOCK_USERS, len(users))) for start in range(0, len(users), BLOCK_USERS)]
        return Lists.joined([self._listed(users.part(rows), context) for rows in blocks or [slice(0, 0)]])

    def candidates(self, users: Users, context: ListContext) -> Candidates:
        """Return what the users' lists may hold, before it is ranked."""
        return self._found(self._active(context, users.vectors), users, context, self._wanted(context))

    def _wanted(self, context: ListContext) -> int:
        return context.options.size + self._spare + (EXPLORED if context.options.exploration_slots else 0)

    def _found(self, sources: Sequence[Source], users: Users, context: ListContext, wanted: int) -> Candidates:
        if context.is_large:
            found = indexed.candidates(sources, self._filters, users, context, wanted)
        else:
            found = exact_scan.candidates(sources, self._filters, users, context, wanted)
        for one in self._personal:
            kept = one.personal(found.numbers, users, context)
            found = found if kept is None else found.only(kept)
        return found

    def _listed(self, users: Users, context: ListContext) -> Lists:
        sources, size, wanted = self._active(context, users.vectors), context.options.size, self._wanted(context)
        found = self._found(sources, users, context, wanted)
        chosen = self._ranked(found, users, context, wanted)
        for stage in self._policy:
            chosen = stage(chosen, size, users, context)
            if self._spare:  # a plugin's stage may leave gaps
                chosen = chosen.closed_up()
        chosen = chosen.first(size)
        return Lists(chosen.numbers, chosen.scores, chosen.propensities, dict(chosen.parts), because(sources, chosen, users, context))

    def _ranked(self, found: Candidates, users: Users, context: ListContext, size: int) -> Candidates:
        """Return the `size` best candidates, best first."""
        if isinstance(self._ranker, ByRecipe):
            return self._ranker.ranked(found, users, context, size)
        made = self._features(found, users, context)
        columns, numbers, scores = best(self._ranker.score(made, found.valid), found.numbers, size)
        places = flat(columns, found.numbers.shape[1])
        parts = self._ranker.parts(made.at(places)).transpose(2, 0, 1)  # (F, U, P)
        by_name = dict(zip(made.names, parts, strict=True))
        return Candidates(numbers, found.raw_at(places), found.scales, scores, by_name, np.ones(scores.shape, np.float32))

    def _active(self, context: ListContext, kinds: Iterable[str]) -> list[Source]:
        """Return the sources with a weight, models of these `kinds` among them."""
        weights = context.options.weights
        models = {kind: ModelSource(kind) for kind in kinds}
        first = {name: source for name, source in self._sources.items() if name in _BEFORE_MODELS}
        return [source for name, source in (first | models | self._sources).items() if weights.get(name)]
