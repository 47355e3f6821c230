"""From the record of an item to what an engine learns of it."""

from __future__ import annotations

from recsys.catalogue.items import ItemContent
from schemas.catalogue import Item


def content_of(item: Item) -> ItemContent:
    """Return what the engine learns of an item."""
    return ItemContent(
        categories=item.categories,
        attributes=dict(item.categorical_attributes),
        published_s=None if item.published_ts_ms is None else item.published_ts_ms // 1000,
        expires_s=None if item.expires_ts_ms is None else item.expires_ts_ms // 1000,
        available=item.available,
        embeddings=dict(item.embeddings),
        title=item.title,
        numbers=item.numeric_attributes,
    )
