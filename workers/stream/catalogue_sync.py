"""What a worker follows besides events: the catalogue and the serving models, both polled from the state store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import ValidationError

from recsys.catalogue.items import MAX_EMBEDDING_COLUMNS, ItemContent
from recsys.models.base import Model
from schemas.announcements import ModelAnnouncement
from schemas.catalogue import Item
from workers.errors import Fatal, Transient
from workers.runtime.metrics import StreamMetrics
from workers.runtime.rounds import Rounds
from workers.stream.pipeline import Pipeline

log = logging.getLogger(__name__)

ITEMS_AT_ONCE = 250  # four embeddings of 3,072 numbers are 160 kB of JSON
MODELS_WAIT_S = 60.0
"""Lists wait for an announced model for so long; then they are made without it, until it can be loaded."""
ModelSource = Callable[[ModelAnnouncement], Model]
"""The model that serves after an announcement. Raises Fatal or Transient when it cannot be had."""
Confirm = Callable[[str], ModelAnnouncement | None]
"""What the model store lets serve of a kind, as an announcement; None for nothing. Raises Fatal or Transient when it cannot be asked."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
"""Wait after the first failure to follow one announcement, and the longest one."""


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


class Unconfirmed(Transient):
    """The models topic says something that the model store contradicts."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What serves of a kind: `version` None if nothing does, `model` None if that version is held already. `agrees`: the topic says so."""

    version: str | None
    model: Model | None
    agrees: bool


@dataclass(frozen=True, slots=True)
class _Settled:
    """The announcement (empty: a tombstone) that was followed last, and what serves since; `refused` for one that is not tried again."""

    stored: bytes
    version: str | None
    refused: bool = False


class ModelFollower:
    """Loads models that were announced, in a thread, and swaps them in between two batches.

    The model store confirms what the models topic says before anything changes: others may write an announcement or a tombstone there.
    Where they differ the store counts, and both are looked at again. A version that is refused is not tried again until its kind is
    announced again.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        source: ModelSource,
        confirm: Confirm | None = None,
        *,
        first_wait_s: float = FIRST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `confirm` every announcement is believed. `first_wait_s` is the first wait after something could not be loaded."""
        self.metrics: StreamMetrics | None = None
        self._pipeline = pipeline
        self._source, self._confirm, self._first_wait_s, self._clock = source, confirm, first_wait_s, clock
        self._missing_since_s: dict[str, float] = {}
        """Announced kinds of which no model serves or is refused, and since when."""
        self._loading: dict[str, tuple[bytes, asyncio.Task[_Found]]] = {}
        self._settled: dict[str, _Settled] = {}
        self._unconfirmed: dict[str, bytes] = {}
        """Kind ▸ the announcement that the model store contradicted last."""
        self._tries: dict[str, tuple[bytes, Rounds]] = {}

    async def follow(self) -> list[str]:
        """Start loading what is newly announced, swap in what is loaded, drop retired kinds; the swapped `kind/version`s. The caller holds
        the pipeline's lock."""
        announced = await self._pipeline.store.serving()
        for kind, stored in announced.items():
            if not stored and self._confirm is None:
                self._retire(kind, stored)
            elif kind not in self._loading and not self._is_settled(kind, stored) and self._rounds(kind, stored).due:
                task = asyncio.create_task(asyncio.to_thread(self._find, kind, stored, self._held(kind)))
                self._loading[kind] = stored, task
        swapped: list[str] = []
        for kind, (stored, task) in list(self._loading.items()):
            if task.done():
                del self._loading[kind]
                is_dropped = self._confirm is None and announced.get(kind) == b""
                await self._rounds(kind, stored).attempt(partial(self._take, kind, stored, task, is_dropped, swapped))
        self._note_missing(announced)
        return swapped

    def missing(self) -> list[str]:
        """Return the announced kinds that lists wait for."""
        now_s = self._clock()
        return sorted(kind for kind, since_s in self._missing_since_s.items() if now_s - since_s < MODELS_WAIT_S)

    def _note_missing(self, announced: Mapping[str, bytes]) -> None:
        """Note which kinds are announced and neither serve, nor are refused, nor contradicted by the model store."""
        serving, now_s = self._pipeline.engine.models, self._clock()
        missing = {
            kind
            for kind, stored in announced.items()
            if stored and kind not in serving and not self._is_settled(kind, stored) and self._unconfirmed.get(kind) != stored
        }
        self._missing_since_s = {kind: self._missing_since_s.get(kind, now_s) for kind in missing}

    def _held(self, kind: str) -> str | None:
        held = self._pipeline.engine.models.get(kind)
        return None if held is None else held.version

    def _is_settled(self, kind: str, stored: bytes) -> bool:
        settled = self._settled.get(kind)
        return settled is not None and settled.stored == stored and (settled.refused or settled.version == self._held(kind))

    def _rounds(self, kind: str, stored: bytes) -> Rounds:
        """The tries to follow one announcement; the next one is tried at once."""
        if kind not in self._tries or self._tries[kind][0] != stored:
            self._tries[kind] = stored, Rounds(
                "loading_models", self.metrics, first_s=self._first_wait_s, longest_s=LONGEST_WAIT_S, clock=self._clock
            )
        return self._tries[kind][1]

    def _find(self, kind: str, stored: bytes, held: str | None) -> _Found:
        """Find and load what serves, in a thread. Raises Transient, Fatal."""
        try:
            said = ModelAnnouncement.model_validate_json(stored) if stored else None
        except ValidationError:
            raise Fatal(f"{kind}: the announcement in Redis cannot be read; `recsys models promote` announces a version again") from None
        truth = said if self._confirm is None else self._confirm(kind)
        says, wanted = (None if announcement is None else announcement.serving for announcement in (said, truth))
        if wanted is None or truth is None:
            if says is not None:
                raise Unconfirmed(f"{kind}: {says.version} is announced, and the model store lets no version serve")
            return _Found(None if said is None else held, None, True)  # a refused first version changes nothing
        agrees = says is not None and (says.version, says.manifest_sha256) == (wanted.version, wanted.manifest_sha256)
        if wanted.version == held:
            return _Found(held, None, agrees)
        model = self._source(truth)
        self._pipeline.engine.prepare(model)  # an index of a million items takes seconds, and lists go out meanwhile
        return _Found(wanted.version, model, agrees)

    async def _take(self, kind: str, stored: bytes, task: asyncio.Task[_Found], is_dropped: bool, swapped: list[str]) -> None:
        """Let what was found serve. Raises Transient where that has to be tried again."""
        try:
            found = await task
        except Unconfirmed:
            self._unconfirmed[kind] = stored
            self._count("unconfirmed")
            raise
        except Fatal as error:
            self._settled[kind] = _Settled(stored, None, refused=True)
            self._count("refused")
            log.error("model kind %s: a version is refused, the one before goes on serving: %s", kind, error)
            return
        if is_dropped:
            return
        if found.version is None:
            self._retire(kind, stored)
        elif found.model is not None:
            index, engine = self._pipeline.index, self._pipeline.engine
            await index.number(found.model.item_ids)
            engine.ensure_items(len(index.names))
            engine.serve(kind, found.version, found.model, index.numbers)
            swapped.append(f"{kind}/{found.version}")
            self._count("loaded")
            log.info("serving model %s/%s", kind, found.version)
        if not found.agrees:
            self._count("unconfirmed")
            what = "says something else" if stored else "says that the kind is retired"
            raise Unconfirmed(f"{kind}: the model store lets {found.version} serve, and so it does; the models topic {what}")
        self._settled[kind] = _Settled(stored, found.version)

    def _retire(self, kind: str, stored: bytes) -> None:
        if self._pipeline.engine.models.pop(kind, None) is not None:
            log.warning("model kind %s is retired", kind)
        self._settled[kind] = _Settled(stored, None)

    def _count(self, outcome: Literal["loaded", "refused", "unconfirmed"]) -> None:
        if self.metrics is not None:
            self.metrics.count_model(outcome)

    def close(self) -> None:
        """Wait for nothing any more."""
        for _, task in self._loading.values():
            task.cancel()
        self._loading.clear()
