"""Generations of the state: which there are, and serving one again that `recsys state rebuild --keep-old` left.

    claim ▸ check the kept state and the topics ▸ switch the pointer ▸ workers take over

A kept generation is a state that stopped at its watermarks, as if its workers had been down since then. Workers that follow the pointer
read on from these watermarks and from its own offsets of the other topics, so each event counts once in it. That holds while the topics
have everything since; it is checked first, and nothing is changed otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from workers.bootstrap import open_store
from workers.errors import Fatal
from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import Place
from workers.kafka.topics import topic_configs, topic_ids_async, topic_problem
from workers.operations.doctor import removals
from workers.operations.rebuild_claim import claimed
from workers.operations.rebuild_fold import Say, repeat_until_done
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import StateStore, Watermark
from workers.stream.reread import unapplied

NOTICE_S = 2.0
"""Workers look at the pointer twice a second: after this, those that answer have left the old generation."""
WATCH_S = 0.2


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation that is stored. `n_behind` events of the log are not applied; None where `problem` says why it cannot serve."""

    generation: int
    serves: bool
    n_behind: int | None
    problem: str

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Used:
    """`generation` serves instead of `before`; it had `n_behind` events to apply. `taken_over`: workers have applied them."""

    generation: int
    before: int
    n_behind: int
    taken_over: bool

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


async def generations(settings: Settings) -> list[Generation]:
    """Return the generations that are stored, and whether each could serve. Changes nothing. Raises Transient."""
    control = open_store(settings)
    try:
        active = await control.active_generation()
        found = []
        for number in await control.generations():
            try:
                found.append(Generation(number, number == active, await check(settings, control, number), ""))
            except Fatal as problem:
                found.append(Generation(number, number == active, None, str(problem)))
        return found
    finally:
        await control.close()


async def use(settings: Settings, generation: int, *, wait_s: float = 60.0, say: Say = lambda line: None) -> Used:
    """Let a kept generation serve again; the one that served until now is kept.

    `wait_s` is how long workers may take over after the switch. Raises: Fatal when it would not be the state that the log says, or somebody
    rebuilds or switched; Transient when Redis or Kafka stays away. Nothing is changed then.
    """
    control = open_store(settings)
    try:
        before = await control.active_generation()
        if generation == before:
            raise Fatal(f"generation {generation} of the state is the one that serves: nothing to do")
        async with claimed(control) as claim:
            n_behind = await check(settings, control, generation)
            ends = await end_offsets_async(settings, [settings.topics.events])
            claim.check()
            await switch(control, before, generation)
            say(f"switched to generation {generation}, which has {n_behind:,} events to apply; workers take over")
            done = await taken_over(settings, control, generation, ends, wait_s, say)
            say(f"generation {before} is kept: go back with `recsys state use {before}`, or delete it with `recsys state drop {before}`")
            return Used(generation, before, n_behind, done)
    finally:
        await control.close()


async def check(settings: Settings, control: StateStore, generation: int) -> int:
    """Return how many offsets of the log a generation has not applied. Raises Fatal where workers could not bring it up to date exactly."""
    if not await control.catalogue_read_into(generation):  # what a killed rebuild left has not all that the topics say
        raise Fatal(f"generation {generation} of the state was never served by a worker: `recsys state generations` lists what there is")
    store = open_store(settings)
    try:
        await store.open(layout_of(settings), generation)
        marks = await store.watermarks(range(settings.topics.partitions))
        await _check_whole(settings, store, marks)
        n_behind = await _check_log(settings, generation, marks)
    finally:
        await store.close()
    for topic in (settings.topics.items, settings.topics.users, settings.topics.models):
        for finding in removals(topic, await asyncio.to_thread(topic_configs, settings, topic)):
            raise Fatal(f"{finding.text}, in generation {generation} too: run `recsys state rebuild` instead")
    return n_behind


async def _check_whole(settings: Settings, store: StateStore, marks: Mapping[int, Watermark | None]) -> None:
    """Raise Fatal where a generation lost writes: groups are written before users, and numbers before the rows that use them."""
    for group in range(settings.state.item_groups):
        held = await store.group_watermarks(group)
        for partition, mark in marks.items():
            theirs = held.get(partition)
            if mark is not None and (theirs is None or theirs.last_applied_offset < mark.last_applied_offset):
                raise Fatal(
                    f"generation {store.generation} lost state: item group {group} is behind the users of partition {partition}: "
                    "run `recsys state rebuild` instead"
                )
    if await store.numbers_used() > len(await store.item_names()):
        raise Fatal(f"generation {store.generation} lost numbers of items that its rows use: run `recsys state rebuild` instead")


async def _check_log(settings: Settings, generation: int, marks: Mapping[int, Watermark | None]) -> int:
    topic = settings.topics.events
    ids = await topic_ids_async(settings)
    if topic not in ids:
        raise Fatal(await asyncio.to_thread(topic_problem, settings, topic))
    starts, ends = await start_offsets_async(settings, [topic]), await end_offsets_async(settings, [topic])
    n_behind = 0
    for partition, mark in sorted(marks.items()):
        next_offset = 0 if mark is None else mark.last_applied_offset + 1
        start, end = starts.get((topic, partition), 0), ends.get((topic, partition), 0)
        if mark is not None and mark.topic_id != ids[topic]:
            raise Fatal(f"generation {generation} follows a topic {topic} that was deleted and made again: run `recsys state rebuild`")
        if start > next_offset:
            raise Fatal(
                f"topic {topic} no longer holds what generation {generation} has not applied (partition {partition}: it needs offset "
                f"{next_offset:,}, the topic begins at {start:,}): keep what serves, or run `recsys state rebuild --partial`"
            )
        if next_offset > end:
            raise Fatal(f"generation {generation} is ahead of topic {topic} in partition {partition}: run `recsys state rebuild` instead")
        n_behind += end - next_offset
    return n_behind


async def switch(control: StateStore, old: int, new: int) -> None:
    """Make another generation the active one. A call whose answer was lost may have switched: the claim keeps others from it."""

    async def attempt() -> bool:
        return await control.switch_generation(old, new) or await control.active_generation() == new

    if not await repeat_until_done(attempt):
        raise Fatal(f"generation {old} is no longer the active one: somebody else switched to another one, which is served")


async def taken_over(
    settings: Settings, control: StateStore, generation: int, ends: Mapping[Place, int], wait_s: float, say: Say
) -> bool:
    """Return whether workers have brought a generation to where the log ended at the switch, within `wait_s` seconds."""
    switched_s, behind, was_behind = time.monotonic(), 0, -1
    await repeat_until_done(lambda: control.open(layout_of(settings), generation))
    while True:
        marks = await repeat_until_done(lambda: control.watermarks([partition for _, partition in ends]))
        lasts = {p: -1 if mark is None else mark.last_applied_offset for p, mark in marks.items()}
        behind = sum(max(0, end - 1 - lasts[partition]) for (_, partition), end in ends.items())
        waited_s = time.monotonic() - switched_s
        if behind == was_behind:  # nothing moves: is what is left a record at all?
            starts = {place: lasts[place[1]] + 1 for place in ends}
            behind = sum((await repeat_until_done(partial(unapplied, settings, starts, ends))).values())
        was_behind = behind
        if waited_s >= NOTICE_S and (behind == 0 or waited_s >= wait_s):
            break
        await asyncio.sleep(WATCH_S)
    if behind:
        say(f"{behind:,} events are not applied {waited_s:.0f} s after the switch: is a worker running? They are applied when one starts")
    return behind == 0
