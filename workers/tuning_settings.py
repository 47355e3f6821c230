"""Settings of what the trainer finds out by itself: options of kinds, and which kinds are worth their time. All is off by default."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from workers.section import Section


class TuningSettings(Section):
    search_minutes: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """Minutes of a round in which the trainer looks for better options of its kinds, all kinds together; 0: off. What a kind finds is
    stored with its model, and is that kind's default in later rounds. It searches again when the log has twice the events. Options in
    `options` stay as they are."""
    least_gain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Retire a kind of model that adds less than this share to the NDCG@10 of the list, beyond chance; 0: off. The recipe's round measures
    what each kind adds, and retires at most one kind. A retired kind gets another chance when the log has twice the events. A value such
    as 1e-9 measures and retires only what surely does harm."""
