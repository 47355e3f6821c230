"""A copy of the state from which lists are made on request. It writes nothing: neither item numbers nor rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from recsys.catalogue.labels import CATEGORY
from recsys.engine import Engine
from recsys.lists.reason_choice import reason_fields
from workers.lists.engine_config import engine_config
from workers.stream.serving_state import ServingState

USER_SLOTS = 1_024
"""Users of one batch of requests, with room: nobody is held longer than it takes to make their list."""


class ReadOnlyState(ServingState):
    """As a worker's state, but that items which only a model knows get no number, and no pages are made."""

    def _new_engine(self) -> Engine:
        config = engine_config(self.settings)
        labels = config.label_fields | {CATEGORY} | reason_fields(True)
        engine = Engine(replace(config, user_slots=USER_SLOTS, label_fields=labels, rows=()))
        engine.name_items(self.numbering.names)
        return engine

    async def number_items(self, item_ids: Iterable[str]) -> None:
        """Learn the numbers that there are. Items without one are on no list until a worker numbers them."""
        await self.learn_new_items()
