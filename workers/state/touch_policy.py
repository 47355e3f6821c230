"""From settings to the touch policy of lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recsys.lists.touch_policy import FOR_EVER, TouchPolicy
from schemas.events import EVENT_TYPES, EventType
from workers.settings import Settings, TouchSettings, WeightSettings

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def off_seconds(text: str) -> int:
    """Return the seconds of a time such as `30d`; 0 of `no`, and `FOR_EVER` of `forever`."""
    if text in ("no", "forever"):
        return 0 if text == "no" else FOR_EVER
    return round(float(text[:-1]) * _UNITS_S[text[-1]])


def touch_policy(settings: Settings) -> TouchPolicy:
    """Return the touch policy behind these settings."""
    return touch_policy_of(settings.touch)


def touch_policy_of(touch: TouchSettings) -> TouchPolicy:
    """Return the touch policy behind that section."""
    by_category: dict[str, Mapping[int, int]] = {
        category: {EventType(name).code: off_seconds(text) for name, text in changed.items()}
        for category, changed in touch.by_category.items()
    }
    return TouchPolicy([off_seconds(getattr(touch, kind.value)) for kind in EVENT_TYPES], by_category, EventType.DISLIKE.code)


def kept_types(policy: TouchPolicy, weights: WeightSettings) -> int:
    """Return a mask of the event types whose items stay off lists when they have left the history."""
    dislikes = [kind.code for kind in EVENT_TYPES if kind is EventType.RATING or getattr(weights, kind.value) < 0]
    return policy.kept_types(dislikes)
