"""One item's content, as its owner describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.catalogue.labels import ATTRIBUTE, CATEGORY, FIRST_CATEGORY


@dataclass(frozen=True, slots=True)
class ItemContent:
    """One item's content. Times are seconds; `embeddings` are the owner's own vectors by name (text, image, audio)."""

    categories: Sequence[str] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    published_s: int | None = None
    expires_s: int | None = None
    available: bool = True
    embeddings: Mapping[str, Sequence[float]] = field(default_factory=dict)
    title: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Numeric attributes. They and the title are held only where a rule names them."""


def labels_of(content: ItemContent, field_name: str) -> Sequence[str]:
    """Return what an item says of a field that labels may hold: its categories, or its value of a categorical attribute."""
    if field_name == CATEGORY:
        return content.categories
    if field_name == FIRST_CATEGORY:
        return content.categories[:1]
    value = content.attributes.get(field_name.removeprefix(ATTRIBUTE))
    return () if value is None else (value,)


def digest_of(content: ItemContent) -> int:
    """Return a number that stands for what an item says and its embeddings, in this process; availability and expiry are no part of it."""
    embeddings = tuple((name, np.asarray(vector, np.float64).tobytes()) for name, vector in content.embeddings.items())
    return hash((tuple(content.categories), tuple(content.attributes.items()), content.published_s, embeddings))
