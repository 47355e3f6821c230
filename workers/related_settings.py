"""Settings of product pages: what is published for each item and each category, beside the lists of users. All of it is off by default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from workers.section import Positive, Section

EventName = Literal["view", "play", "click", "like", "rating", "add_to_cart", "purchase", "share"]
HalfLife = Literal["10m", "40m", "2h", "6h", "1d", "4d", "15d", "90d"]


class RelatedSettings(Section):
    similar: bool = False
    """Publish similar items of each item on `topics.similar`: what users chose with it, and what is like it."""
    bought_together: bool = False
    """Count which items the same users chose by events of `event_types`, and publish the pairs on `topics.bought_together`. Counts
    start with the events that are applied from then on; `recsys state rebuild` counts the whole log."""
    trending: bool = False
    """Publish for each category the items that rise, on `topics.trending`."""
    size: Annotated[int, Field(ge=1, le=100)] = 20
    """Items on each of these lists."""
    event_types: Annotated[tuple[EventName, ...], Field(min_length=1)] = ("purchase",)
    """Types of events that make a pair, such as ["purchase"], or ["add_to_cart"] where no purchases are sent. A rating counts if it is a
    liking. All workers need the same value; after a change run `recsys state rebuild`."""
    items_per_user: Annotated[int, Field(ge=2, le=100)] = 20
    """A user counts for the pairs of the newest this many distinct items of these events: what one event changes grows with it. After
    a change run `recsys state rebuild`."""
    least_users: Annotated[int, Field(ge=2, le=1_000_000)] = 3
    """Pairs that fewer users have chosen are not published: they would be noise, and could give a person away."""
    pairs_per_item: Annotated[int, Field(ge=100, le=1_000_000)] = 1_000
    """The most pairs that a compacted row of an item keeps, those with most users. A count may be too small for it, never too large."""
    per_second: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Items whose lists a worker makes again in a second. Items that changed wait; one that changes often waits no longer for that."""
    again_s: Annotated[float, Field(ge=1)] = 86_400.0
    """Seconds after which a worker begins to look at all of its items again, besides those that change: counts fade with time, and the
    catalogue around an item changes. Takes a part of `per_second` that changed items leave."""
    similar_events: Annotated[float, Field(gt=0, le=1e6)] = 10.0
    """How often an item must have been chosen for its similar items to depend as much on what users chose with it as on its content.
    An item that nobody has chosen depends on content alone."""
    trending_every_s: Annotated[float, Field(ge=1)] = 60.0
    """Seconds after which trending items are looked for again. Only lists that differ are published."""
    trending_now: HalfLife = "6h"
    """Half-life at which an item's share of all events must be larger than at `trending_before`, for the item to rise."""
    trending_before: HalfLife = "15d"
    """Half-life that `trending_now` is compared with; it must be the longer one."""
    trending_least: Positive = 5
    """An item must have been chosen this often, at `trending_now`, to be on a list: else the first event would make it rise most."""

    @model_validator(mode="after")
    def _compares_different_times(self) -> RelatedSettings:
        names = ("10m", "40m", "2h", "6h", "1d", "4d", "15d", "90d")
        if names.index(self.trending_now) >= names.index(self.trending_before):
            raise ValueError(f"trending_now {self.trending_now} must be shorter than trending_before {self.trending_before}")
        return self

    @property
    def publishes(self) -> bool:
        """Return whether anything is published."""
        return self.similar or self.bought_together or self.trending
