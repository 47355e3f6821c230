"""Items whose content is like that of the items a user chose lately, or of the categories a new user named."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue import content_kernel
from recsys.catalogue.content_kinds import ContentKinds
from recsys.lists.context import ListContext, Users
from recsys.lists.sources.base import Product, Source

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class ContentSource(Source):
    """Scores an item by the inner product of its features and the user's profile, at least 0."""

    name = "content"
    reason = "because"
    size = 32

    def prepare(self, context: ListContext) -> None:
        if context.is_large:
            content_kinds(context)
        else:
            _ = context.catalogue.features  # weighed now if it has to be, not in several threads

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        return content_kinds(context).candidates(_profiles(users, context), size)

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        if context.is_large:
            kinds = content_kinds(context)
            return kinds.scores(_profiles(users, context), kinds.of[numbers].astype(np.int64))
        return self.product(users, context).scores(numbers)

    def product(self, users: Users, context: ListContext) -> Product:
        return Product(_profiles(users, context), context.catalogue.features_by_column)

    def explain(self, users: Users, items: I64, scale: F32, context: ListContext, added: F32) -> None:
        recent, likings = users.recent, _likings(users, context) * scale[:, None]
        if context.is_large:
            kinds = content_kinds(context)
            listed, read = kinds.of[np.maximum(items, 0)].astype(np.int64), kinds.of[recent.items].astype(np.int64)
            alike = kinds.alike(listed, read, context.catalogue.width)  # (U, K, R)
            alike *= likings[:, None, :]
            added += alike
        else:
            features, width = context.catalogue.feature_table, context.catalogue.width
            content_kernel.explain(features, width, recent.items, likings, items, added)


def content_likeness(users: Users, items: I64, context: ListContext, out: F32) -> None:
    """Write how alike the content of `items` (U, P), −1 for none, is to that of the newest liked item, and to that of the liked one that is
    most alike, at least 0, into `out` (U, 2, P)."""
    recent = users.recent
    if context.is_large:
        kinds = content_kinds(context)
        listed, read = kinds.of[np.maximum(items, 0)].astype(np.int64), kinds.of[recent.items].astype(np.int64)
        content_kernel.strongest_likeness(kinds.alike(listed, read, context.catalogue.width), recent.strengths, out)
    else:
        content_kernel.likeness(context.catalogue.feature_table, context.catalogue.width, recent.items, recent.strengths, items, out)


def content_kinds(context: ListContext) -> ContentKinds:
    """Return the kinds of a large catalogue, brought up to date."""
    return context.once("content.kinds", lambda: context.catalogue.refresh_kinds(lambda: _trending(context), context.valid_s))


def _trending(context: ListContext) -> F32:
    return context.popularity.trending()[: context.n_items]


def _likings(users: Users, context: ListContext) -> F32:
    """Return the weights of the recent items, (U, R)."""
    return users.once("content.likings", lambda: context.options.content_recency.weights(users.recent))


def _profiles(users: Users, context: ListContext) -> F32:
    """Return the weighted sum of the recent items' features, or what a user without any named: (U, F)."""

    def made() -> F32:
        catalogue, items = context.catalogue, users.recent.items
        if context.is_large:
            kinds = content_kinds(context)
            features = kinds.features(kinds.of[items].astype(np.int64), catalogue.width)  # (U, R, F)
        else:
            features = catalogue.features[items]
        profiles: F32 = np.matmul(_likings(users, context)[:, None, :], features)[:, 0]
        for row, categories in users.preferred.items():
            vector = catalogue.category_vector(categories)
            if vector is not None and not profiles[row].any():
                profiles[row, : len(vector)] = vector[: profiles.shape[1]]
        return profiles

    return users.once("content.profiles", made)
