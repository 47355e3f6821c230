"""Settings of lists that depend on what was shown to a user before."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from workers.section import Positive, Section


class FrequencyCapSettings(Section):
    """Lets an item rest that was shown often and never chosen. It needs `state.shown_items`, and events of type `impression`."""

    times: Annotated[int, Field(ge=0, le=255)] = 0
    """How often an item is shown to a user without a choice (any other event that counts) before it rests. 0: no item rests."""
    rest_hours: Annotated[float, Field(gt=0, le=8_760)] = 24.0
    """For how long it stays off the user's lists: hours of event time after the last impression. After them it may be shown again, and
    rests again after each impression without a choice."""


class StabilitySettings(Section):
    """Keeps the order of a user's list before where scores differ little, so that a page does not move without a reason."""

    margin: Annotated[float, Field(ge=0, le=20)] = 0.0
    """An item passes the one before it on the list only if its score is higher by more than this. Scores are logits: 0.1 is a tenth more
    odds. 0: off."""
    users: Positive = 100_000
    """How many users' newest lists a worker remembers for it, those listed last, 4 bytes a place. It reads those of before its start from
    the recommendations topic, and needs the right to."""
