"""Paths behind reasons: what a listed item and the own item behind it both say, where a model that reads content ranks it for that.

Shapes: U users, K places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.content_values import ERA, IS
from recsys.catalogue.labels import ATTRIBUTE
from recsys.lists import path_kernel
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.reason_kinds import KINDS, Reasons
from recsys.lists.serving import ServingModel
from recsys.lists.sources.base import Source
from recsys.lists.sources.models import ModelSource
from recsys.models.base import NamesValues
from recsys.models.user_vectors import nearest

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
MAX_CHARS = 256
"""Longest text that a record holds for a category."""
_BECAUSE = KINDS.index("because") + 1


def with_paths(
    reasons: Reasons,
    sources: Sequence[Source],
    listed: Candidates,
    because: I64,
    reference: Mapping[str, F32],
    users: Users,
    context: ListContext,
) -> Reasons:
    """Return the reasons of `listed` items (U, K) with the value that leads from the first own item behind each, `because` (U, K, 2), to
    it.

    Only where the reason is that item, and a model whose score of the item is above that of the average candidate (`reference`) has learnt
    what both say. Of several values the one counts that adds most to that score; without one the reason stays as it is.
    """
    for source in sources:
        serving = context.models.get(source.name) if isinstance(source, ModelSource) else None
        if serving is None or not isinstance(serving.model, NamesValues) or serving.model.shared_values is None:
            continue
        above = listed.parts[source.name] > reference[source.name][:, None]
        wanted = (reasons.kinds == _BECAUSE) & (reasons.categories < 0) & (listed.raw[source.name] > 0) & above
        if wanted.any():
            reasons = _named(reasons, wanted, serving, listed.numbers, because, users.vectors[source.name])
    return reasons


def _named(
    reasons: Reasons, wanted: NDArray[np.bool_], serving: ServingModel, items: I64, because: I64, vectors: F32
) -> Reasons:
    assert isinstance(serving.model, NamesValues) and serving.model.shared_values is not None
    said, given = serving.model.shared_values
    rows, places = np.nonzero(wanted)
    own = because[rows, places, 0]
    on_axis = serving.positions[items[rows, places]].astype(np.int64)
    own_on_axis = np.where(own >= 0, serving.positions[own], -1).astype(np.int64)
    found = np.empty(len(rows), np.int64)
    own_vectors = nearest(vectors, rows, serving.model.item_vectors[on_axis])
    path_kernel.strongest(said.starts, said.columns, said.weights, given, own_vectors, on_axis, own_on_axis, found)
    texts = {value: label_of(said.names[value]) for value in np.unique(found[found >= 0]).tolist()}
    kept = {value: text for value, text in texts.items() if text}
    categories, names = reasons.categories.copy(), [*reasons.names, *kept.values()]
    place_of = {value: len(reasons.names) + at for at, value in enumerate(kept)}
    categories[rows, places] = [place_of.get(value, -1) for value in found.tolist()]
    return Reasons(reasons.kinds, categories, names)


def label_of(value: str) -> str:
    """Return a value as people read it, such as `director: Michael Mann`; an era has no name."""
    field, _, text = value.partition(IS)
    return "" if field == ERA else f"{field.removeprefix(ATTRIBUTE)}: {text}"[:MAX_CHARS]
