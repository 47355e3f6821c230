"""One round's own world: topics, namespace, workers, a log that is published while things break, and the comparison at its end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Any

import orjson
from aiokafka.errors import KafkaError

from tests.fault.fault_plan import Crash, FaultPlan
from tests.fault.item_lists import item_list_differences
from tests.fault.registry import Round
from tests.fault.topics import DUPLICATE_CHUNK, LOOK_S, PARTITIONS, PATIENCE_S, SELDOM_S, RoundTopics
from tests.fault.worker_spawner import Worker
from tests.fold import Log, State, counted, fold, read_state
from tests.fresh import ListedItems, fresh_lists
from tests.merging import merge_differences
from workers.errors import Transient
from workers.kafka.partitioner import partition_for
from workers.local.embedded import environment
from workers.state.layout import layout_of
from workers.state.port import StateStore, UserCommit
from workers.stream.service import FOLLOW_S

SCORE_TOLERANCE = 1e-3
SETTLED_S = 15.0
"""Within so many seconds lists that are made again must be those of the final state."""


class Harness(RoundTopics):
    """A round: its topics, its workers, and the comparison at its end."""

    def start_worker(self, crash: Crash | None = None, jumps: tuple[tuple[float, float], ...] = (), **sections: Any) -> Worker:
        """Start a stream worker; `sections` change its settings."""
        wanted = {name: {**values, **sections.get(name, {})} for name, values in self.sections.items()}
        if self._workers_redis_url is not None:
            wanted["redis"]["url"] = self._workers_redis_url
        name = f"stream-{len(self.workers)}"
        fault_plan = FaultPlan(crash, jumps, DUPLICATE_CHUNK)
        worker = self.lane.spawner.start(name, environment(wanted), self.folder / f"{name}.log", fault_plan)
        self.workers.append(worker)
        return worker

    async def ended(self, worker: Worker, timeout_s: float | None = None) -> int:
        """Wait until a worker has ended, and return its exit code."""
        await self.wait_for(lambda: not worker.running, f"the end of {worker.name}", timeout_s)
        assert worker.exit_code is not None
        return worker.exit_code

    async def died(self, worker: Worker) -> None:
        """Wait until a worker has met its end."""
        await self.reached(worker, lambda: not worker.running)

    async def reached(self, worker: Worker, condition: Callable[[], bool]) -> None:
        """Wait until a worker has come to the point of its fault plan, with more events once the log is published.

        Raises TimeoutError if it never does.
        """
        deadline = time.monotonic() + self.drain_s
        while not condition():
            await self.wait_for(lambda: condition() or self.answered(), f"the point where {worker.name} ends or stops")
            if not condition():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{worker.name} never came to the point where it should have ended or stopped")
                await self.nudge()

    async def nudge(self) -> None:
        """Publish one more event in each partition, of users of the log."""
        newest_ms = max(record.fact.event_ts_ms for record in self.plan if record.fact is not None)
        users = {record.partition: record.fact.user_id for record in self.plan if record.fact is not None}
        for user_id in users.values():
            self._nudges += 1
            await self.event(user_id, f"i{self.chance.randrange(self.n_items)}", newest_ms, f"nudge{self._nudges}")

    async def owning(self, *workers: Worker) -> None:
        """Wait until these workers own all partitions, each at least one."""
        everything = list(range(PARTITIONS))
        await self.wait_for(
            lambda: sorted(p for w in workers for p in owned(w)) == everything and all(map(owned, workers)),
            f"partitions of {', '.join(w.name for w in workers)}",
        )

    async def finish(
        self,
        faults: int,
        *,
        alive: list[Worker] | None = None,
        catalogue: bool = True,
    ) -> Round:
        """Publish the rest, wait until all of it is applied, and compare. `alive`: workers that must still run (default: the newest one).

        No worker's log may hold a traceback.
        """
        differences: list[str] = []
        try:
            await self.publish(len(self.plan))
            await self._drain(differences)
            if not differences:
                await self._compare(differences, catalogue)
        except (TimeoutError, KafkaError, Transient) as error:
            differences.append(f"{type(error).__name__}: {error}")
        expected = self.workers[-1:] if alive is None else alive
        differences += [f"{w.name} ended with {w.exit_code}: {w.last_lines(3)}" for w in expected if not w.running]
        differences += self.tracebacks()
        if differences:
            await self.stacks()
        return Round(sum(self._ends.values()), faults, differences)

    async def stacks(self) -> None:
        """Have every worker write what it is doing now into its log."""
        for worker in self.workers:
            worker.signal(signal.SIGRTMIN)
        await asyncio.sleep(1.0)

    async def _drain(self, differences: list[str]) -> None:
        await self.wait_for(self.read_back, "the events topic")
        differences += self.lost()
        due = self.due()
        try:
            await self.wait_for(lambda: all(self.newest(user_id) >= at for user_id, at in due.items()), "every user's newest list")
        except TimeoutError:
            late = {user_id: (self.newest(user_id), at) for user_id, at in due.items() if self.newest(user_id) < at}
            differences.append(f"users whose newest list is behind (has, should have): {late}")
        with contextlib.suppress(TimeoutError):
            await self.wait_for(lambda: not self.still_listed(), "removal of erased users' lists")
        if listed := self.still_listed():
            differences.append(f"lists of erased users are not removed: {listed}")
        try:
            await self.wait_for(lambda: set(self.seen.dead) >= self.poison(), "dead letters", 10.0)
        except TimeoutError:
            differences.append(f"poison without a dead letter: {sorted(self.poison() - set(self.seen.dead))}")
        if more := set(self.seen.dead) - self.poison():
            differences.append(f"dead letters of good records: {sorted(more)}")

    async def differences_from(self, store: StateStore, log: Log) -> list[str]:
        """Return how the state differs from the fold of a log; only in rows that count, if workers delete the others."""
        expected = fold(log, self.settings)
        found = await read_state(store, self.settings, expected)
        if self.settings.state.sweep_s == SELDOM_S:
            return state_differences(found, expected)
        return state_differences(counted(found, self.settings, log), counted(expected, self.settings, log))

    async def _compare(self, differences: list[str], catalogue: bool) -> None:
        store = self.own_store()
        await store.open(layout_of(self.settings))
        try:
            await self._applied(store)
            differences.extend(await self.differences_from(store, self.log()))
            differences.extend(await self._merge_differences(store))
            if catalogue:
                differences.extend(await self._catalogue_differences(store))
            await asyncio.sleep(2 * FOLLOW_S)  # workers look so often at the catalogue, which may have changed a moment ago
            differences.extend(await self.every_list(store))
        finally:
            await store.close()
        differences.extend(await self._last_lists())
        differences.extend(await self._item_lists())
        differences.extend(self.hidden_listed())
        differences.extend(f"a list of an erased user came back: {user_id}" for user_id in self.still_listed())

    async def _applied(self, store: StateStore) -> None:
        deadline = time.monotonic() + self.drain_s
        ends = {partition: end - 1 for partition, end in self._ends.items() if end}
        while True:
            marks = await store.watermarks(list(ends))
            behind = {p: end for p, end in ends.items() if (-1 if (w := marks[p]) is None else w.last_applied_offset) < end}
            if not behind:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"partitions were not applied to their ends: {behind}")
            await asyncio.sleep(LOOK_S)

    async def _merge_differences(self, store: StateStore) -> list[str]:
        """Return how merged users differ from plain Python, once the users topic is read, and lists of ended ids that were not removed."""
        if not self.merges:
            return []
        expected, users = fold(self.log(), self.settings), sorted({*self.merges, *(into for into, _ in self.merges.values()), *self.due()})
        deadline = time.monotonic() + self.drain_s
        while differences := await merge_differences(store, self.settings, expected, self.merges, users):
            if time.monotonic() > deadline:
                return differences
            await asyncio.sleep(LOOK_S)
        ended = {user_id for user_id in self.merges if self.is_merged(user_id) and self.seen.lists.get(user_id)}
        with contextlib.suppress(TimeoutError):
            await self.wait_for(lambda: ended <= self.seen.gone, "removal of lists")
        return [f"lists of ended ids are not removed: {sorted(ended - self.seen.gone)}"] if ended - self.seen.gone else []

    async def _catalogue_differences(self, store: StateStore) -> list[str]:
        names = await store.item_names()
        deadline = time.monotonic() + self.drain_s
        while True:
            stored = await store.read_items(list(range(len(names))))
            missing = sorted({f"i{number}" for number in range(self.n_items)} - {n for n, s in zip(names, stored, strict=True) if s})
            if not missing:
                break
            if time.monotonic() > deadline:
                return [f"items that the catalogue lost: {missing}"]
            await asyncio.sleep(LOOK_S)
            names = await store.item_names()
        items = {name: orjson.loads(s) for name, s in zip(names, stored, strict=True) if s}
        wrong = [name for name, item in items.items() if item["item_id"] != name]
        unavailable = {name for name, item in items.items() if not item["available"]}
        differences = [f"items stored under another's number: {wrong}"] if wrong else []
        if unavailable != (should := self.hidden | self._turned):
            differences.append(f"unavailable items: {sorted(unavailable)} instead of {sorted(should)}")
        return differences

    def hidden_listed(self) -> list[str]:
        """Return lists with an item that was unavailable before the first event."""
        found = {user_id for user_id, lists in self.seen.lists.items() if any(self.hidden & made.items.keys() for made in lists)}
        return [f"lists of {len(found)} of {len(self.seen.lists)} users held unavailable items: {sorted(found)[:5]}"] if found else []

    def n_lists(self) -> dict[str, int]:
        """Return how many lists of each user have come."""
        return {user_id: len(lists) for user_id, lists in self.seen.lists.items()}

    async def listed_since(self, before: Mapping[str, int], users: Collection[str]) -> None:
        """Wait until each of these users has another list than before. Raises TimeoutError."""

        def late() -> list[str]:
            return [user_id for user_id in users if len(self.seen.lists.get(user_id, [])) <= before.get(user_id, 0)]

        try:
            await self.wait_for(lambda: not late(), "another list of every user")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; missing: {late()[:5]}") from None

    async def lists_differ(self, users: Collection[str]) -> list[str]:
        """Return how these users' newest lists differ from those of a fresh process. The state must be the one that they were made from."""
        chosen = sorted(users)
        store = self.own_store()
        try:
            fresh = await fresh_lists(self.settings, store, [(partition_for(u.encode(), PARTITIONS), u) for u in chosen])
        finally:
            await store.close()
        found = {user_id: list_difference(self.seen.lists[user_id][-1].items, fresh[user_id]) for user_id in chosen}
        wrong = {user_id: difference for user_id, difference in found.items() if difference is not None}
        if not wrong:
            return []
        user_id, difference = next(iter(wrong.items()))
        return [f"newest lists of {len(wrong)} of {len(chosen)} users differ from a fresh process: {user_id}: {difference}"]

    async def every_list(self, store: StateStore) -> list[str]:
        """Have every user's list made again from the state as it is, idle users' too, by the running workers and by a new one.

        All users are noted as waiting for a list, and another worker joins: the group deals out the partitions again, and the workers that
        take them make the lists. No event comes in between, so a fresh process must make the same ones.
        """
        marks, users = await store.watermarks(range(PARTITIONS)), set()
        before = self.n_lists()
        for partition, mark in marks.items():
            here = {user_id async for user_id in store.scan_users(partition)}
            if mark is not None and here:
                last = mark.last_applied_offset
                await store.commit_users([UserCommit(partition, mark.topic_id, last, last, {}, owed=sorted(here))])
                users |= {user_id for user_id in here if not self.is_merged(user_id)}
        self.start_worker()
        await self.listed_since(before, users)
        deadline = time.monotonic() + SETTLED_S
        while (differences := await self.lists_differ(users)) and time.monotonic() < deadline:
            before = self.n_lists()  # a list that was owed before may have come first: the one that was asked for here is on its way
            with contextlib.suppress(TimeoutError):
                await self.wait_for(lambda seen=before: self.n_lists() != seen, "more lists", 0.5)  # type: ignore[misc]
        return differences

    async def _item_lists(self) -> list[str]:
        """Return how the lists of what is bought together that are published differ from those of the final state."""
        if not self.settings.related.bought_together:
            return []
        store = self.own_store()
        try:
            await store.open(layout_of(self.settings))
            return await item_list_differences(self.settings, store, PATIENCE_S)
        finally:
            await store.close()

    async def _last_lists(self) -> list[str]:
        """Publish one more event of two users, one by one, and compare the list with the one that a fresh process makes of that state."""
        differences = []
        users = sorted(self.due())
        newest_ms = self.newest_ms()
        for number, user_id in enumerate(self.chance.sample(users, min(2, len(users)))):
            item_id, at_ms = f"i{self.chance.randrange(self.n_items)}", newest_ms + 1_000 * (1 + number)
            partition, source_offset = await self.event(user_id, item_id, at_ms, f"last{number}")
            try:
                await self.wait_for(lambda u=user_id, at=source_offset: self.newest(u) >= at, f"the last list of {user_id}")  # type: ignore[misc]
            except TimeoutError as error:
                differences.append(str(error))
                continue
            made = [made for made in self.seen.lists[user_id] if made.source_offset == source_offset][-1]
            store = self.own_store()
            try:
                fresh = (await fresh_lists(self.settings, store, [(partition, user_id)]))[user_id]
            finally:
                await store.close()
            if (difference := list_difference(made.items, fresh)) is not None:
                differences.append(f"the last list of {user_id} ({partition}/{source_offset}): {difference}")
        return differences


def owned(worker: Worker) -> list[int]:
    """Return the partitions that a worker owns, by its newest log line."""
    said = re.findall(r"owns partitions \[([0-9, ]*)\]", worker.said())
    return [int(partition) for partition in said[-1].split(",") if partition.strip()] if said and worker.running else []


def state_differences(found: State, expected: State) -> list[str]:
    """Return each part of the state that differs, with the first few places."""
    differences = []
    for part in (one.name for one in fields(State) if one.compare):
        has, should = getattr(found, part), getattr(expected, part)
        places = [place for place in {**has, **should} if has.get(place) != should.get(place)]
        if places:
            shown = "; ".join(f"{place}: {has.get(place)} instead of {should.get(place)}" for place in places[:2])
            differences.append(f"{part} differs in {len(places)} of {len(should)} places: {shown}"[:600])
    return differences


def list_difference(made: ListedItems, fresh: ListedItems) -> str | None:
    """Return None for lists of the same items and scores; items that tie with the last one may differ."""
    floor = min([*made.values(), *fresh.values()], default=0.0)
    apart = {
        item: (made.get(item), fresh.get(item))
        for item in {**made, **fresh}
        if abs(made.get(item, floor) - fresh.get(item, floor)) > SCORE_TOLERANCE
    }
    if len(made) != len(fresh):
        return f"{len(made)} items instead of {len(fresh)}"
    return f"scores (made, of the final state): {dict(list(apart.items())[:4])}, {len(apart)} of {len(fresh)}" if apart else None
