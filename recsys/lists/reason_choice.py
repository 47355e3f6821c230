"""From the parts of a score to a reason: what made an item stand above the others that its user could have got.

Shapes: G parts of a score, U users, K places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import freshness
from recsys.catalogue.labels import FIRST_CATEGORY
from recsys.lists import reason_kernel
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.policies.freshness import PART as FRESHNESS
from recsys.lists.reason_kernel import AGAIN, NEW, OWN, PEOPLE, POPULAR, PROFILE, SEQUENCE, Carried, Own
from recsys.lists.reason_kinds import KINDS, ReasonKind, Reasons
from recsys.lists.reason_paths import with_paths
from recsys.lists.sources.base import Source
from recsys.lists.sources.content import content_kinds
from recsys.lists.sources.models import ModelSource

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_GROUPS: Mapping[ReasonKind, int] = {
    "because": OWN, "bought_together": OWN, "people_like_you": PEOPLE, "again": AGAIN, "profile": PROFILE, "new_in": NEW,
    "popular_now": POPULAR,
}  # fmt: skip
_PROFILE, _NEW_IN = KINDS.index("profile") + 1, KINDS.index("new_in") + 1
_NO_CATEGORY = -1


def reason_fields(are_on: bool) -> frozenset[str]:
    """Return the fields whose exact values reasons read."""
    return frozenset({FIRST_CATEGORY} if are_on else ())


def references(ranked: Candidates, known: Mapping[str, F32] | None = None) -> dict[str, F32]:
    """Return what each part gave to the average candidate of each user, (U,) by name: as the ranker says, else the mean of those `ranked`.
    Parts that are `known` already are kept."""
    found = dict(ranked.reference or {} if known is None else known)
    missing = [name for name in ranked.parts if name not in found]
    if missing:
        valid = ranked.valid
        n_valid = np.maximum(valid.sum(axis=1), 1)
        for name in missing:
            found[name] = (np.where(valid, ranked.parts[name], np.float32(0)).sum(axis=1) / n_valid).astype(np.float32)
    return found


def reasons_of(
    sources: Sequence[Source], listed: Candidates, because: I64, reference: Mapping[str, F32], users: Users, context: ListContext
) -> Reasons:
    """Return the reasons of `listed` items (U, K), of which `because` (U, K, 2) are the user's own items behind them."""
    groups = {source.name: _group(source, context) for source in sources}
    names = [name for name in listed.parts if groups.get(name, _NO_CATEGORY) >= 0]
    parts, raw = [listed.parts[name] for name in names], [listed.raw[name] for name in names]
    items = np.ascontiguousarray(listed.numbers)
    if FRESHNESS in listed.parts:
        published_s = context.catalogue.published_s[items]
        parts.append(listed.parts[FRESHNESS])
        raw.append(freshness(np.ascontiguousarray(published_s), context.now_s, context.options.new_s, context.valid_s))
        names, groups = [*names, FRESHNESS], {**groups, FRESHNESS: NEW}
    none = np.zeros((0, *items.shape), np.float32)
    carried = Carried(
        np.stack(parts) if parts else none,
        np.stack(raw) if raw else none,
        np.stack([reference[name] for name in names]) if names else np.zeros((0, len(items)), np.float32),
        np.array([groups[name] for name in names], np.int64),
        names.index("cooccurrence") if "cooccurrence" in names else -1,
    )
    kinds, table = np.empty(items.shape, np.uint8), context.table
    own = Own(because, table.items, table.types, users.recent.items.shape[1], users.slots, context.options.bought, _newcomers(users))
    reason_kernel.choose(carried, own, items, kinds)
    found = _with_categories(kinds, items, users, context)
    return with_paths(found, sources, listed, because, reference, users, context)


def _group(source: Source, context: ListContext) -> int:
    if type(source) is ModelSource and context.models[source.name].model.link == "softmax":
        return SEQUENCE
    return _NO_CATEGORY if source.reason is None else _GROUPS[source.reason]


def _newcomers(users: Users) -> NDArray[np.bool_]:
    """Return who named categories and has no history that is liked, (U,)."""
    found = np.zeros(len(users), np.bool_)
    for row in users.preferred:
        found[row] = not (users.recent.strengths[row] > 0).any()
    return found


def _with_categories(kinds: NDArray[np.uint8], items: I64, users: Users, context: ListContext) -> Reasons:
    """Return the reasons with the first category of what is new, and the preferred one of what a profile names."""
    categories, labels = np.full(items.shape, _NO_CATEGORY, np.int32), context.catalogue.labels.get(FIRST_CATEGORY)
    names: list[str] = []
    is_new = kinds == _NEW_IN
    if labels is not None and is_new.any():
        values = labels.at(items[is_new])[:, 0]
        used, place = np.unique(values, return_inverse=True)
        names = [labels.texts[value] if value >= 0 else "" for value in used.tolist()]
        categories[is_new] = np.where(values >= 0, place, _NO_CATEGORY)
    for row, preferred in users.preferred.items():
        if (kinds[row] == _PROFILE).any():
            _name_preferred(row, preferred, kinds[row] == _PROFILE, items[row], categories, names, context)
    return Reasons(kinds, categories, names)


def _name_preferred(
    row: int, preferred: Sequence[str], wanted: NDArray[np.bool_], items: I64, categories: I32, names: list[str], context: ListContext
) -> None:
    """Write the first of the `preferred` categories that each `wanted` item (K,) has into a row of `categories` (U, K)."""
    catalogue, some = context.catalogue, np.maximum(items, 0)
    if context.is_large:
        kinds = content_kinds(context)
        features = kinds.features(kinds.of[some].astype(np.int64), catalogue.width)
    else:
        features = catalogue.features[some]
    for category in preferred:
        vector = catalogue.category_vector((category,))
        if vector is None:
            continue
        width = min(len(vector), features.shape[1])
        has = wanted & (categories[row] < 0) & (features[:, :width] @ vector[:width] > 0)
        if has.any():
            categories[row, has] = len(names)
            names.append(category)
