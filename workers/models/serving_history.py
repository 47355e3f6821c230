"""The history of a kind: promotions, rollbacks and retirements, oldest first. It decides which version serves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from schemas.fields import Count, TimestampMs
from workers.models.manifest import Line, Metrics, Record, Version

LAYOUT = 1
MAX_HISTORY_ENTRIES = 100_000


class ChampionEntry(Record):
    """One change of the version that serves."""

    action: Literal["promoted", "rolled_back", "retired"]
    version: Version
    """The version that serves from here on; of a retirement the one that served until then."""
    reason: Line
    at_ts_ms: TimestampMs
    metrics: Metrics = Field(default={})
    n_events: Count | None = None
    """Of a retirement by the trainer: events of the log. With twice as many the kind is trained again. None: a person retired it."""


class ChampionFile(Record):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    history: Annotated[list[ChampionEntry], Field(max_length=MAX_HISTORY_ENTRIES)]


def served_versions(history: list[ChampionEntry]) -> list[str | None]:
    """Return the versions that served, oldest first, without those rolled back from; the last one serves now (None: a retired kind).

    Raises ValueError if the history rolls back further than it reaches.
    """
    served: list[str | None] = []
    for entry in history:
        if entry.action == "promoted":
            served.append(entry.version)
        elif entry.action == "retired":
            served.append(None)
        else:
            served = before_last(served)
            if not served:
                raise ValueError("a rollback without anything to go back to")
    return served


def before_last(served: list[str | None]) -> list[str | None]:
    """Return the versions that served up to the one before the last."""
    before = served[:-1]
    while before and before[-1] is None:
        before.pop()
    return before
