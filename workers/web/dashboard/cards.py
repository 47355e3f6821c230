"""Items as cards: title, categories, a picture where the settings allow one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import xxhash

from schemas import Item
from schemas.decoding import decode_item
from schemas.errors import Poison
from workers.dashboard_settings import DashboardSettings
from workers.stream.serving_state import ServingState

HUES = 12
"""Colours of cards without a picture; classes of the style sheet."""
SHOWN_CATEGORIES = 3
_DATA_PICTURE = re.compile(r"data:image/(png|jpeg|webp|gif|avif);base64,[A-Za-z0-9+/]+=*")
_HTTPS_PICTURE = re.compile(r"https://[A-Za-z0-9.-]+(:\d{1,5})?/[^\s\"'<>\\]*")


@dataclass(frozen=True, slots=True)
class Card:
    """One item as pages show it. `reason` and `position` are those of its place on a list."""

    item_id: str
    title: str
    categories: tuple[str, ...]
    picture: str
    initials: str
    hue: int
    is_available: bool = True
    is_described: bool = True
    reason: str = ""
    position: int | None = None


async def read_items(state: ServingState, item_ids: Iterable[str]) -> dict[str, Item]:
    """Return the catalogue's records of items, by id; nothing of items without one."""
    numbers = state.numbering.numbers
    known = [one for one in dict.fromkeys(item_ids) if one in numbers]
    found: dict[str, Item] = {}
    stored = await state.store.read_items([numbers[one] for one in known]) if known else []
    for one, record in zip(known, stored, strict=True):
        if record is None:
            continue
        try:
            item = decode_item(record, one.encode())
        except Poison:
            continue
        if item is not None:
            found[one] = item
    return found


def card_of(settings: DashboardSettings, item_id: str, item: Item | None, *, reason: str = "", position: int | None = None) -> Card:
    """Return the card of an item, called by its id where nothing describes it."""
    title = item_id if item is None or not item.title.strip() else item.title
    hue = xxhash.xxh3_64_intdigest((item.categories[0] if item is not None and item.categories else item_id).encode()) % HUES
    return Card(
        item_id,
        title,
        () if item is None else item.categories[:SHOWN_CATEGORIES],
        "" if item is None else picture_of(settings, item),
        _initials(title),
        hue,
        item is None or item.available,
        item is not None,
        reason,
        position,
    )


def picture_of(settings: DashboardSettings, item: Item) -> str:
    """Return the URL of an item's picture; nothing for one of a kind that the settings do not allow."""
    url = item.categorical_attributes.get(settings.image_attribute, "")
    if "data" in settings.images and _DATA_PICTURE.fullmatch(url):
        return url
    return url if "https" in settings.images and _HTTPS_PICTURE.fullmatch(url) else ""


def _initials(title: str) -> str:
    words: Sequence[str] = [word for word in re.split(r"[^\w]+", title) if word]
    return "".join(word[0] for word in words[:2]).upper() or "·"
