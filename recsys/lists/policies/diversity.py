"""Makes the items of a list differ in content.

Shapes: U users, P ranked candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.content_rows import content_rows
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.policies import diversity_kernel
from recsys.lists.policies.relevance import relevance
from recsys.lists.sources.content import content_kinds

I64 = NDArray[np.int64]

_DENSE_NUMBERS = 8_000_000
"""Embeddings copied at once: 32 MB."""


class Diversity:
    """Fills the places one by one with the candidate that is best by relevance and by how it differs from those before it.

    Items are as similar as the cosine of their content features, those of the source `content`. An item without content is similar to none.
    """

    def prepare(self, context: ListContext) -> None:
        """Bring content features up to date, before lists are made in several threads."""
        if context.options.policy.diversifies:
            if context.is_large:
                content_kinds(context)
            else:
                _ = context.catalogue.sparse_features

    def __call__(self, candidates: Candidates, size: int, users: Users, context: ListContext) -> Candidates:
        if not context.options.policy.diversifies:
            return candidates
        order, worth = np.empty(candidates.numbers.shape, np.int64), relevance(candidates)
        options = context.options.policy.diversity
        assert options is not None
        n_dense = sum(block.stop - block.start for block in context.catalogue.embedding_blocks)
        step = max(1, _DENSE_NUMBERS // max(n_dense * candidates.numbers.shape[1], 1)) if n_dense else max(len(users), 1)
        kinds = content_kinds(context) if context.is_large else None
        choose = diversity_kernel.mmr if options.kind == "mmr" else diversity_kernel.dpp
        for start in range(0, len(users), step):
            part = slice(start, start + step)
            numbers = np.ascontiguousarray(candidates.numbers[part])
            rows = content_rows(context.catalogue, numbers, kinds)
            choose(numbers, worth[part], rows, size, float(options.strength), order[part])
        return candidates.at(order)
