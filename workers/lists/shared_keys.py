"""Keys of lists that belong to no user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.decoding import decode_key
from schemas.errors import Poison
from workers.settings import Settings

if TYPE_CHECKING:
    from recsys.models.segments.segment import Segment

DEFAULT = "default"
"""What follows `lists.shared_prefix` in the key of the list for everybody."""
CATEGORY, SEGMENT = "category:", "segment:"
"""What comes before the name of a category, and before an attribute and its value."""


def default_key(settings: Settings) -> str:
    """Return the key of the list for everybody."""
    return settings.lists.shared_prefix + DEFAULT


def category_key(settings: Settings, category: str) -> str | None:
    """Return the key of the list of a category; None if it is too long for one, or has control characters."""
    return _usable(f"{settings.lists.shared_prefix}{CATEGORY}{category}")


def segment_key(settings: Settings, segment: Segment) -> str | None:
    """Return the key of the list of a segment of users, such as `recsys:segment:gender=F` or `recsys:segment:age=18..25`; None as above."""
    value = segment.attribute.value if segment.attribute.kind != "numeric" else f"{_end(segment.low)}..{_end(segment.high)}"
    return _usable(f"{settings.lists.shared_prefix}{SEGMENT}{segment.name}={value}")


def _end(number: float) -> str:
    return "" if number in (float("inf"), float("-inf")) else f"{number:g}"


def _usable(key: str) -> str | None:
    try:
        return decode_key(key.encode(errors="surrogatepass"))
    except Poison:
        return None
