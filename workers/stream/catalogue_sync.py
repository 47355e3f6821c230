"""Keeps the engine's catalogue in step with the state store."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from recsys.catalogue.content_values import LeftOut
from recsys.catalogue.items import MAX_EMBEDDING_COLUMNS
from schemas.catalogue import Item
from workers.lists.item_content import content_of
from workers.runtime.left_out import left_out_lines
from workers.runtime.status import WorkerStatus
from workers.runtime.text import visible
from workers.stream.rules_sync import RulesFollower
from workers.stream.serving_state import ServingState

log = logging.getLogger(__name__)

ITEMS_AT_ONCE = 250  # four embeddings of 3,072 numbers are 160 kB of JSON


class CatalogueFollower:
    """Keeps the engine's catalogue at the store's version."""

    def __init__(self, state: ServingState, status: WorkerStatus | None = None) -> None:
        """`status` shows the version of the published rules in use."""
        self._state = state
        self.rules = RulesFollower(state, status) if state.settings.lists.rules_topic else None
        self._version, self._resets = 0, 0
        self._left_out = 0
        self._values_left_out = LeftOut()
        self._without_values: set[str] = set()

    @property
    def is_small(self) -> bool:
        """Return whether the state, as far as it was followed, has had too few records of items to fill a list."""
        return self._version <= self._state.settings.lists.size

    async def follow(self) -> int:
        """Learn what changed since the last call and return how many items did. The caller holds a turn of the state."""
        state = self._state
        if self._resets != state.resets:
            self._version, self._resets = 0, state.resets
        if self.rules is not None:
            await self.rules.follow(is_described=self._version > 0)
        version, numbers = await state.store.changed_items(self._version)
        if numbers:
            await state.learn_new_items()
        for start in range(0, len(numbers), ITEMS_AT_ONCE):
            some = numbers[start : start + ITEMS_AT_ONCE]
            for number, stored in zip(some, await state.store.read_items(some), strict=True):
                try:
                    item = None if stored is None else Item.model_validate_json(stored)
                except ValidationError:
                    log.error("item number %d in the state cannot be read by this version and stays as it was; publish it again", number)
                    continue
                names = state.numbering.names
                if number < len(names) and (item is None or item.item_id == names[number]):
                    state.engine.describe_item(number, None if item is None else content_of(item))  # else of a numbering that was lost
        self._version = version
        self._warn_of_left_out()
        self._warn_of_caps()
        return len(numbers)

    def _warn_of_left_out(self) -> None:
        """Warn of what takes no part in lists: of embeddings each time that there are more, of values when other attributes are named."""
        left_out = self._state.engine.catalogue.n_left_out
        if left_out > self._left_out:
            log.warning(
                "%d embeddings take no part in lists: their names and dimensions need more than %d columns; "
                "give each name one dimension, and restart the workers",
                left_out,
                MAX_EMBEDDING_COLUMNS,
            )
        self._left_out = left_out
        values = self._state.engine.catalogue.left_out
        before = self._values_left_out
        if values.identifiers != before.identifiers or values.without_column.keys() != before.without_column.keys():
            for line in left_out_lines(values):
                log.warning("%s", line)
        self._values_left_out = values

    def _warn_of_caps(self) -> None:
        """Warn once of each field that a cap counts and that no item has, as one with a misspelt name."""
        if self.is_small:
            return
        for name, labels in self._state.engine.catalogue.labels.items():
            if not labels.bound and name not in self._without_values:
                self._without_values.add(name)
                log.warning("no item has a value of %s, which lists.caps or lists.calibration reads: check the name", visible(name))
