"""Reads items, profiles and model announcements to the end of their topics, before the first list is made of a state.

Faust's agents follow these topics for as long as a worker runs. They cannot read again what a state does not hold any more, or say that
nothing is left. This reads without a consumer group: from the offsets that the state holds, or from the start where Redis may have lost
something.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping

from workers.errors import Fenced, Transient
from workers.kafka.records import Place
from workers.kafka.topics import topic_ids_async
from workers.settings import Settings
from workers.stream.readiness import Readiness
from workers.stream.reference_topics import Intake
from workers.stream.reread import read_compacted
from workers.stream.serving_state import ServingState

log = logging.getLogger(__name__)

LOOK_S = 1.0


class CatalogueLoader:
    """Brings a state's items, profiles and announcements to the ends of their topics, and says so to `readiness`."""

    def __init__(self, settings: Settings, state: ServingState, intake: Intake, readiness: Readiness) -> None:
        self._settings, self._state, self._intake, self._readiness = settings, state, intake, readiness
        self._due = asyncio.Event()
        self._topics = ""
        self._is_loaded = False
        self._offsets_of = 0
        """`ServingState.resets` of the state whose own offsets are valid. A worker that has just started trusts those that it finds."""
        self._n_invalidations = 0
        self._read_to: dict[Place, int] = {}
        """Place ▸ the offset at which this process stopped reading."""

    async def wait(self) -> None:
        """Wait until `ask` is called, a second at most."""
        try:
            await asyncio.wait_for(self._due.wait(), LOOK_S)
        except TimeoutError:
            return

    def ask(self) -> None:
        """Look at once."""
        self._due.set()

    def invalidate(self) -> None:
        """Read everything from the start before the next list: the state may hold less than its offsets say."""
        self._n_invalidations += 1
        self._offsets_of, self._is_loaded = -1, False
        self._readiness.note_catalogue_incomplete()
        self._due.set()

    @property
    def item_places(self) -> list[Place]:
        """Return the partitions of the items topic; none before they were read for the first time."""
        return [place for place in self._read_to if place[0] == self._settings.topics.items]

    def lacks(self, ends: Mapping[Place, int]) -> bool:
        """Return whether partitions with these ends have more than this process has read."""
        return any(self._read_to[place] < end for place, end in ends.items())

    def read_on(self) -> None:
        """Read new records before the next list."""
        self._is_loaded = False
        self._readiness.note_catalogue_incomplete()
        self._due.set()

    async def look(self, follow: Callable[[], Awaitable[object]]) -> None:
        """Read what the state lacks, if it lacks anything; `follow` takes it into the engine.

        Raises: Transient, Fenced, Fatal, KafkaError.
        """
        self._due.clear()
        state, store = self._state, self._state.store
        if not self._topics:
            self._topics = await self._topic_ids()
        resets, n_invalidations = state.resets, self._n_invalidations
        is_noted = await store.catalogue_read() == self._topics
        is_valid = is_noted and self._offsets_of == resets
        if self._is_loaded and is_valid:
            return
        self._readiness.note_catalogue_incomplete()
        await self._read(await store.catalogue_offsets() if is_valid else {})
        async with state.turn():
            await follow()
            if (state.resets, self._n_invalidations) != (resets, n_invalidations):
                raise Fenced("the state changed while its catalogue was read: reading it again")
            if not is_noted:
                await store.note_catalogue(self._topics)
            self._offsets_of, self._is_loaded = resets, True
            self._readiness.note_catalogue_loaded(resets)

    async def _read(self, since: Mapping[str, int]) -> None:
        done = await read_compacted(self._settings, self._intake, _places(since))
        self._read_to = done.next_offsets
        if sum(done.counts.values()):
            read = ", ".join(f"{count:,} {role}" for role, count in done.counts.items())
            log.info("read %s from %s", read, "where the state was" if since else "the start of their topics")
        await self._state.store.note_catalogue_offsets({f"{topic}/{partition}": at for (topic, partition), at in self._read_to.items()})

    async def _topic_ids(self) -> str:
        topics, ids = self._settings.topics, await topic_ids_async(self._settings)
        names = [topics.items, topics.users, topics.models, *([topics.control] if self._settings.lists.rules_topic else [])]
        if missing := [name for name in names if name not in ids]:
            raise Transient(f"topic {', '.join(missing)} is missing: run `recsys topics create`")
        return json.dumps([ids[name] for name in names])


def _places(offsets: Mapping[str, int]) -> dict[Place, int]:
    return {(topic, int(partition)): at for place, at in offsets.items() for topic, _, partition in [place.rpartition("/")]}
