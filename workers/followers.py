"""What a worker follows besides events: the catalogue and the serving models, both polled from the state store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from recsys.catalogue import MAX_EMBEDDING_COLUMNS, ItemContent
from recsys.models.base import Model
from schemas.announcements import ModelAnnouncement
from schemas.catalogue import Item
from workers.errors import Fatal, Transient
from workers.pipeline import Pipeline

log = logging.getLogger(__name__)

ITEMS_AT_ONCE = 250  # four embeddings of 3,072 numbers are 160 kB of JSON
MODELS_WAIT_S = 60.0
"""Lists wait for an announced model for so long; then they are made without it, until it can be loaded."""
ModelSource = Callable[[ModelAnnouncement], Model]
"""The model that serves after an announcement. Raises Fatal or Transient when it cannot be had."""


def content_of(item: Item) -> ItemContent:
    """What the engine learns of an item."""
    return ItemContent(
        categories=item.categories,
        attributes=dict(item.categorical_attributes),
        published_s=None if item.published_ts_ms is None else item.published_ts_ms // 1000,
        expires_s=None if item.expires_ts_ms is None else item.expires_ts_ms // 1000,
        available=item.available,
        embeddings=dict(item.embeddings),
    )


class CatalogueFollower:
    """Keeps the engine's catalogue at the store's version."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._version, self._resets = 0, 0
        self._left_out = 0

    @property
    def is_small(self) -> bool:
        """Whether the state has had too few records of items to fill a list, as far as was followed."""
        return self._version <= self._pipeline.settings.lists.size

    async def follow(self) -> int:
        """Learn what changed since the last call; how many items. The caller holds the pipeline's lock."""
        pipeline = self._pipeline
        if self._resets != pipeline.resets:
            self._version, self._resets = 0, pipeline.resets
        version, numbers = await pipeline.store.changed_items(self._version)
        if numbers:
            await pipeline.index.catch_up()
            pipeline.engine.ensure_items(len(pipeline.index.names))
        for start in range(0, len(numbers), ITEMS_AT_ONCE):
            some = numbers[start : start + ITEMS_AT_ONCE]
            for number, stored in zip(some, await pipeline.store.read_items(some), strict=True):
                try:
                    item = None if stored is None else Item.model_validate_json(stored)
                except ValidationError:
                    log.error("item number %d in the state cannot be read by this version and stays as it was; publish it again", number)
                    continue
                if number < len(pipeline.index.names) and (item is None or item.item_id == pipeline.index.names[number]):
                    pipeline.engine.describe_item(number, None if item is None else content_of(item))  # else of a numbering that was lost
        self._version = version
        self._warn_of_left_out()
        return len(numbers)

    def _warn_of_left_out(self) -> None:
        """Say that embeddings take no part, each time that there are more of them."""
        left_out = self._pipeline.engine.catalogue.n_left_out
        if left_out > self._left_out:
            log.warning(
                "%d embeddings take no part in lists: their names and dimensions need more than %d columns; "
                "give each name one dimension, and restart the workers",
                left_out,
                MAX_EMBEDDING_COLUMNS,
            )
        self._left_out = left_out


class ModelFollower:
    """Loads models that were announced, in a thread, and swaps them in between two batches.

    A version that is refused is not tried again until its kind is announced anew.
    """

    def __init__(self, pipeline: Pipeline, source: ModelSource, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pipeline = pipeline
        self._source = source
        self._clock = clock
        self._missing_since_s: dict[str, float] = {}
        """Announced kinds of which no model serves or is refused, and since when."""
        self._loading: dict[str, tuple[str, asyncio.Task[Model]]] = {}
        self._asked: dict[str, bytes] = {}
        self._refused: dict[str, bytes] = {}

    async def follow(self) -> list[str]:
        """Start loading what is newly announced, swap in what is loaded, drop retired kinds; the swapped `kind/version`s. The caller holds
        the pipeline's lock."""
        engine = self._pipeline.engine
        announced = await self._pipeline.store.serving()
        for kind, stored in announced.items():
            if not stored:
                if engine.models.pop(kind, None) is not None:
                    log.info("model kind %s is retired", kind)
                continue
            announcement = ModelAnnouncement.model_validate_json(stored)
            serving = announcement.serving
            if serving is None:
                continue
            held = engine.models.get(kind)
            busy = self._loading.get(kind)
            if (held is not None and held.version == serving.version) or self._refused.get(kind) == stored:
                continue
            if busy is None:
                self._asked[kind] = stored
                self._loading[kind] = (serving.version, asyncio.create_task(asyncio.to_thread(self._load, announcement)))
        swapped = []
        for kind, (version, task) in list(self._loading.items()):
            if not task.done():
                continue
            del self._loading[kind]
            if (model := self._loaded(kind, version, task)) is not None and announced.get(kind) != b"":
                await self._pipeline.index.number(model.item_ids)
                engine.ensure_items(len(self._pipeline.index.names))
                engine.serve(kind, version, model, self._pipeline.index.numbers)
                swapped.append(f"{kind}/{version}")
                log.info("serving model %s/%s", kind, version)
        self._note_missing(announced)
        return swapped

    def missing(self) -> list[str]:
        """Return the announced kinds that lists wait for."""
        now_s = self._clock()
        return sorted(kind for kind, since_s in self._missing_since_s.items() if now_s - since_s < MODELS_WAIT_S)

    def _note_missing(self, announced: Mapping[str, bytes]) -> None:
        serving, now_s = self._pipeline.engine.models, self._clock()
        open_kinds = {kind for kind, stored in announced.items() if stored and kind not in serving and self._refused.get(kind) != stored}
        missing = {kind for kind in open_kinds if ModelAnnouncement.model_validate_json(announced[kind]).serving is not None}
        self._missing_since_s = {kind: self._missing_since_s.get(kind, now_s) for kind in missing}

    def _load(self, announcement: ModelAnnouncement) -> Model:
        model = self._source(announcement)
        self._pipeline.engine.prepare(model)  # an index of a million items takes seconds, and lists go out meanwhile
        return model

    def _loaded(self, kind: str, version: str, task: asyncio.Task[Model]) -> Model | None:
        try:
            return task.result()
        except Transient as error:
            log.warning("model %s/%s cannot be loaded now: %s", kind, version, error)
        except Fatal as error:
            self._refused[kind] = self._asked[kind]
            log.error("model %s/%s is refused, the one before goes on serving: %s", kind, version, error)
        return None

    def close(self) -> None:
        """Wait for nothing any more."""
        for _, task in self._loading.values():
            task.cancel()
        self._loading.clear()
