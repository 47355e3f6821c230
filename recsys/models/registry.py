"""The table of model kinds. A new kind is one entry: trainer, store and stream worker find models only here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import numpy as np

from recsys.errors import ModelError, ShapeError
from recsys.models.base import Model
from recsys.models.checks import check_model, check_tensors
from recsys.models.kind import ModelKind, nearest


class Kinds(MutableMapping[str, ModelKind]):
    """Kinds by name. A kind given as the name of a module, whose `KIND` it is, is imported when it is first asked for: torch alone takes
    more than a second, and a worker without models needs none of it."""

    def __init__(self, kinds: Mapping[str, ModelKind | str]) -> None:
        self._kinds = dict(kinds)

    def __getitem__(self, name: str) -> ModelKind:
        found = self._kinds[name]
        if isinstance(found, str):
            kind: ModelKind = import_module(found).KIND
            self._kinds[name] = found = kind
        return found

    def __setitem__(self, name: str, kind: ModelKind) -> None:
        self._kinds[name] = kind

    def __delitem__(self, name: str) -> None:
        del self._kinds[name]

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


NEIGHBOUR_KINDS = ("knn", "ease", "slim")
"""Kinds whose scores are sums of rows of neighbours (`recsys.models.neighbour`)."""

FACTOR_KINDS = ("bpr", "biased_mf", "isgd", "item2vec")
"""Matrix factorisations beside iALS, and item2vec: a user is folded in from the history against stored item vectors."""

PAIR_KINDS = ("neumf",)
"""Kinds that score a pair of user and item by more than an inner product (`recsys.models.base.ScoresPairs`)."""

CONTENT_KINDS = ("lightgcn", "two_tower")
"""Kinds that learn from what items say, too, where it is known: they give an item a vector before anybody has touched it."""

SEQUENCE_KINDS = ("sasrec", "comirec")
"""Kinds that read the order of a history, and its times: one vector of it, or several."""

ATTRIBUTE_KINDS = ("two_tower",)
"""Kinds that learn from profiles beside histories, where they are known."""

_NAMES = ("ials", "popular", *SEQUENCE_KINDS, *NEIGHBOUR_KINDS, *FACTOR_KINDS, *PAIR_KINDS, *CONTENT_KINDS)

MODELS = Kinds({name: f"recsys.models.{name}.kind" for name in _NAMES})

PROFILE_MODELS = Kinds({"segments": "recsys.models.segments.kind"})
"""Kinds that read profiles instead of histories: they are trained and judged by rounds of their own."""


def kind_of(name: str) -> ModelKind:
    """Return a kind of model by name. Raises: KeyError."""
    return PROFILE_MODELS[name] if name in PROFILE_MODELS else MODELS[name]


def check_kinds(kinds: Iterable[str], others: Collection[str] = ()) -> None:
    """Raises: ModelError naming the first kind that is neither registered nor among `others`, and the nearest one that is."""
    known = [*MODELS, *PROFILE_MODELS, *others]
    for kind in kinds:
        if kind not in known:
            raise ModelError(f"there is no model kind {kind:.40}; {nearest(kind, known)}")


def check_training_options(options: Mapping[str, Mapping[str, Any]], others: Collection[str] = ()) -> None:
    """Raises: ModelError naming the first unknown kind or option, by kind, and the nearest known one; `others` are known kinds too."""
    check_kinds(options, others)
    for kind, named in options.items():
        kind_of(kind).check_names(named)


def load_model(kind: str, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, Any]) -> Model:
    """Rebuild a stored model and check it with `check_model`.

    Raises: KeyError for an unregistered kind, ShapeError for tensors that do not fit, ModelError for a model that cannot serve.
    """
    found = kind_of(kind)
    check_tensors(tensors)  # first: a solver may hang or crash on numbers that are not finite
    if halves := sorted(name for name, array in tensors.items() if array.dtype == np.float16):
        raise ShapeError(f"tensor {halves[0]:.40}: it holds float16, which models of the kind {kind} do not")
    model: Model = found.model.from_tensors(config, item_ids, tensors)
    check_model(model)
    return model
