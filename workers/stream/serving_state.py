"""The state in Redis, and the copy of it that this process makes lists from."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from recsys.catalogue.item_vectors import ItemVectors
from recsys.engine import Engine
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.recipe import Recipe
from workers.errors import Fenced
from workers.lists.encoding import ItemIds
from workers.lists.engine_config import engine_config
from workers.models.model_files import Servable
from workers.runtime.counts import CacheLookups
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import ItemRecord, StateStore, StoredItem, Watermark
from workers.stream.item_numbering import ItemNumbering
from workers.stream.item_state_cache import ItemStateCache
from workers.stream.related_rows import RelatedRows

log = logging.getLogger(__name__)


def last_applied(watermark: Watermark | None) -> int:
    """Return the last applied offset, −1 where nothing was applied."""
    return -1 if watermark is None else watermark.last_applied_offset


@dataclass(frozen=True, slots=True)
class _Identity:
    """Identifies the state that the caches mirror: the servers' run ids, the generation, and the id that an emptied namespace gets."""

    run_ids: tuple[str, ...]
    generation: int
    state_id: str


class ServingState:
    """A state store with the caches over it: the numbering of items, the engine, and the engine's item state.

    `engine`, `item_ids` and `item_cache` are replaced when the caches are dropped: read them from here each time. Change them only while
    holding a `turn`.
    """

    def __init__(self, settings: Settings, store: StateStore, *, wall_clock: Callable[[], float] = time.time) -> None:
        self.settings, self.store = settings, store
        self.numbering = ItemNumbering(store)
        self.engine = self._new_engine()
        self.item_ids = ItemIds(self.numbering.names)
        self.lookups = {name: CacheLookups() for name in ("users", "items", "profiles")}
        """Cache ▸ how often it held what was looked for."""
        self.item_cache = self._new_item_cache()
        self.related_rows = RelatedRows(store, settings.related)
        self._recipe: tuple[str, Recipe] | None = None
        """Version and numbers of the recipe that serves; None: the default one."""
        self._ranker: tuple[str, LearnedRanker] | None = None
        """Version and trees of the ranker that serves; None: the recipe alone ranks."""
        self._texts: tuple[str, ItemVectors] | None = None
        """Version and vectors of items' texts that the catalogue has."""
        self.resets = 0
        """Times that every cache was dropped because the state is another one; whatever follows the state starts over then."""
        self._event_time_of = -1
        """`resets` when event time was read from the state."""
        self._lock = asyncio.Lock()
        self._wall_clock = wall_clock
        self._identity: _Identity | None = None

    def _new_engine(self) -> Engine:
        engine = Engine(engine_config(self.settings))
        engine.name_items(self.numbering.names)
        return engine

    def _new_item_cache(self) -> ItemStateCache:
        settings = self.settings
        return ItemStateCache(
            self.store,
            self.engine,
            live_epochs=settings.state.live_epochs,
            max_neighbours=settings.state.max_neighbours,
            staleness_s=settings.stream.staleness_ms / 1000,
            lookups=self.lookups["items"],
        )

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Hold the state for the block: one task at a time changes it."""
        return self._lock

    async def take_last_turn(self) -> None:
        """Hold the state for good: the worker stops."""
        await self._lock.acquire()

    async def open(self) -> None:
        """Prepare the store. Raises Fatal when the state was laid out with other settings."""
        self._identity = await self._identify()
        await self.numbering.reconcile()
        await self.learn_new_items()
        await self._read_event_time()

    async def _identify(self) -> _Identity:
        await self.store.open(layout_of(self.settings))
        run_ids = tuple(identity.run_id for identity in await self.store.server_identity())
        return _Identity(run_ids, self.store.generation, await self.store.state_id())

    async def close(self) -> None:
        """Close the store."""
        await self.store.close()

    async def check_current(self) -> None:
        """Raise Fenced when the caches mirror another state: a generation was switched, or Redis lost something."""
        known = self._identity
        assert known is not None, "opened"
        if self.numbering.lost or await self.store.wanted_generation() != known.generation or await self.store.state_id() != known.state_id:
            raise Fenced("another state is in Redis than before: reading it")

    async def reopen(self, applied: Mapping[int, int]) -> None:
        """Open the store again and drop the caches if it lost writes that they hold: it was restarted, emptied or failed over.

        `applied`: last applied offset of each owned partition.
        """
        before, now = self._identity, await self._identify()
        marks = await self.store.watermarks(list(applied))
        went_back = any(last_applied(marks[partition]) < offset for partition, offset in applied.items())
        if before is not None and ((before.generation, before.state_id) != (now.generation, now.state_id) or went_back):
            log.warning("the state in Redis is another one or went back: reading all of it again")
            await self.numbering.put_back_used()
            await self._reset()
        elif not await self.numbering.reconcile() or (before is not None and before.run_ids != now.run_ids):
            log.warning("Redis was restarted or failed over: reading the item state again")
            await self._reset()
        self._identity = now

    async def _reset(self) -> None:
        """Drop every cache, and lay the serving models over the numbering as it is now."""
        models, newest_s = self.engine.models, self.item_cache.newest_s
        self.resets += 1  # first: whatever fails from here on, what was loaded before is not of this state
        self.numbering.clear()
        self.item_ids = ItemIds(self.numbering.names)
        await self.numbering.catch_up()
        self.engine = self._new_engine()
        self.item_cache = self._new_item_cache()
        for kind, serving in models.items():
            await self.serve(kind, serving.version, serving.served)
        if self._recipe is not None:
            self.engine.use_recipe(self._recipe[1])
        if self._ranker is not None:
            self.engine.use_ranker(self._ranker[1])
        if self._texts is not None:
            (version, texts), self._texts = self._texts, None
            await self.serve(ItemVectors.kind, version, texts)
        self.engine.ensure_items(len(self.numbering.names))
        if newest_s:  # the log's, whatever became of the state
            await self.item_cache.advance(newest_s)
        await self._read_event_time()

    @property
    def versions(self) -> dict[str, str]:
        """Return kind ▸ version of the models that serve, of the recipe unless it is the default one, of the ranker, and of the vectors of
        texts."""
        versions = {kind: serving.version for kind, serving in self.engine.models.items()}
        others = {Recipe.kind: self._recipe, LearnedRanker.kind: self._ranker, ItemVectors.kind: self._texts}
        return versions | {kind: held[0] for kind, held in others.items() if held is not None}

    async def serve(self, kind: str, version: str, served: Servable) -> None:
        """Use this version of a model, of the recipe, of the ranker, or of the vectors of texts from now on.

        Raises Fenced when the store has lost numbers.
        """
        if isinstance(served, Recipe):
            self.engine.use_recipe(served)
            self._recipe = version, served
            return
        if isinstance(served, LearnedRanker):
            self.engine.use_ranker(served)
            self._ranker = version, served
            return
        await self.number_items(served.item_ids)
        if isinstance(served, ItemVectors):
            for numbers, vectors in served.changes(self.numbering.numbers, None if self._texts is None else self._texts[1]):
                self.engine.supply_texts(numbers, vectors)
                await asyncio.sleep(0)  # heartbeats go on
            self._texts = version, served
            return
        self.engine.serve(kind, version, served, self.numbering.numbers)

    def retire(self, kind: str) -> bool:
        """Use no model of this kind, the default recipe, no ranker, or no vectors of texts from now on; return whether another one
        served."""
        if kind == LearnedRanker.kind:
            ranked, self._ranker = self._ranker, None
            self.engine.use_ranker(None)
            return ranked is not None
        if kind == ItemVectors.kind:
            return self._retire_texts()
        if kind != Recipe.kind:
            return self.engine.retire(kind)
        served, self._recipe = self._recipe, None
        self.engine.use_recipe(None)
        return served is not None

    def _retire_texts(self) -> bool:
        """Take the vectors of texts from the catalogue; return whether there were some."""
        held, self._texts = self._texts, None
        if held is not None:
            none = ItemVectors([], held[1].vectors[:0], held[1].digests[:0], held[1].encoder)
            for numbers, vectors in none.changes(self.numbering.numbers, held[1]):
                self.engine.supply_texts(numbers, vectors)
        return held is not None

    async def number_items(self, item_ids: Iterable[str]) -> None:
        """Have a number, and room in the engine, for each of these items. Raises Fenced when the store has lost numbers."""
        await self.numbering.number(item_ids)
        self.engine.ensure_items(len(self.numbering.names))

    async def learn_new_items(self) -> None:
        """Have a number, and room in the engine, for each item that the store has numbered."""
        await self.numbering.catch_up()
        self.engine.ensure_items(len(self.numbering.names))

    async def store_items(self, items: Sequence[tuple[str, StoredItem]]) -> None:
        """Number items and store what the items topic says of them; the newest source offset wins."""
        await self.numbering.number(item_id for item_id, _ in items)
        numbers = self.numbering.numbers
        await self.store.upsert_items([ItemRecord(numbers[item_id], *stored) for item_id, stored in items])

    @property
    def has_event_time(self) -> bool:
        """Return whether the newest event time of this state is known."""
        return self._event_time_of == self.resets

    async def _read_event_time(self) -> None:
        """Learn event time from the state."""
        resets = self.resets
        await self.follow_event_time()
        self._event_time_of = resets

    async def follow_event_time(self) -> dict[int, int | None]:
        """Learn how far event time is in the state, since other workers apply events too; return the time of each partition."""
        times = await self.store.event_times(range(self.settings.topics.partitions))
        if newest_s := max((at_s or 0 for at_s in times.values()), default=0):
            await self.item_cache.advance(newest_s)
        return times

    async def compact_rows(self) -> int:
        """Shorten some item rows that have grown long, and return how many. The caller holds a turn."""
        return await self.item_cache.compact() + await self.related_rows.compact()

    async def compact_once(self) -> None:
        """Shorten some item rows that have grown long. Batches go on while rows are shortened; only replacing them takes a turn."""
        await self.related_rows.compact()
        cache = self.item_cache
        if not (found := await cache.read_long()):
            return
        bodies = await asyncio.to_thread(cache.shortened, found)
        async with self.turn():
            if cache is self.item_cache:
                await cache.replace(found, bodies)
