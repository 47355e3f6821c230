"""The worker process under test: `recsys worker stream` as it is, wrapped from outside so that it dies where its fault plan says."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import workers.cli.worker
import workers.stream.app
from tests.fault.fault_plan import Crash, FaultPlan
from workers.cli.app import run as run_command
from workers.kafka.batch_publisher import ListPublisher
from workers.settings import Settings
from workers.state.port import StateStore
from workers.stream import service as events_service

for module in (
    "faust.assignor.partition_assignor",
    "faust.tables.sets",
    "faust.transport.drivers.aiokafka",
    "fsspec",
    "kafka.admin.client",
    "kafka.consumer.group",
    "kafka.producer.kafka",
    "uvloop",
):
    importlib.import_module(module)  # loaded when first needed; the spawner has them before it forks

WATCH_S = 3.0
"""How often a worker checks the topic; half a minute in production."""


def run(name: str, fault_plan: FaultPlan, data_folder: Path) -> int:
    """Run the command until it ends, and return its exit code."""
    os.environ["RECSYS_DEBUG"] = "1"  # an unexpected error shows its traceback, which the harness looks for
    signal.signal(signal.SIGRTMIN, lambda *_: _say_where())
    _replace(events_service, "WATCH_S", WATCH_S)
    _replace(events_service, "METADATA_MAX_AGE_MS", int(WATCH_S * 1000))
    if fault_plan.jumps:
        _jump(fault_plan.jumps)
    if fault_plan.duplicate_chunk is not None:
        _shorten_chunks(fault_plan.duplicate_chunk)
    if fault_plan.crash is not None:
        _crash(Fuse(fault_plan.crash))
    return run_command(["worker", "stream", "--data-folder", str(data_folder)])


def _say_where() -> None:
    """Write every task's stack into the log: the harness signals for it when a round is stuck."""
    loop = asyncio.get_event_loop_policy().get_event_loop()
    for task in asyncio.all_tasks(loop):
        task.print_stack(limit=12, file=sys.stderr)
    for frame in sys._current_frames().values():
        traceback.print_stack(frame, limit=12, file=sys.stderr)


class Fuse:
    """Counts how often one point is passed, and ends or stops the process there."""

    def __init__(self, crash: Crash) -> None:
        self._point, self._left = crash.point, crash.nth
        self._signal = signal.SIGSTOP if crash.stops else signal.SIGKILL

    def burns(self, point: str) -> bool:
        """Return whether this is the point: the caller has something to do before it calls `blow`."""
        if point == self._point:
            self._left -= 1
        return point == self._point and self._left == 0

    def blow(self) -> None:
        """End as `kill -9` does: nothing is flushed or closed."""
        os.kill(os.getpid(), self._signal)

    def at(self, point: str) -> None:
        """Pass a point."""
        if self.burns(point):
            self.blow()


class MortalStore:
    """A store that dies before, half way through, or after a write."""

    def __init__(self, inner: StateStore, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def apply_items(self, ranges: Sequence[Any], deltas: Sequence[Any], *more: Any) -> Any:
        self._fuse.at("before_apply")
        if self._fuse.burns("between_groups"):
            half = (len(deltas) + 1) // 2
            results = await self._inner.apply_items(ranges, deltas[:half], *more)
            self._fuse.blow()
            return results + await self._inner.apply_items(ranges, deltas[half:], *more)
        results = await self._inner.apply_items(ranges, deltas, *more)
        self._fuse.at("after_apply")
        return results

    async def commit_users(self, commits: Sequence[Any], *more: Any) -> Any:
        if self._fuse.burns("between_partitions"):
            half = (len(commits) + 1) // 2
            results = await self._inner.commit_users(commits[:half], *more)
            self._fuse.blow()
            return results + await self._inner.commit_users(commits[half:], *more)
        results = await self._inner.commit_users(commits, *more)
        self._fuse.at("after_users")
        return results


def _crash(fuse: Fuse) -> None:
    open_store, publish = workers.stream.app.open_store, ListPublisher.publish

    def open_mortal(settings: Settings) -> Any:
        return MortalStore(open_store(settings), fuse)

    async def publish_and_die(self: ListPublisher, records: Mapping[int, Sequence[tuple[bytes, bytes | None]]], *more: Any) -> None:
        await publish(self, records, *more)
        fuse.at("after_publish")

    make_consumer = events_service.async_consumer

    def mortal_consumer(settings: Settings, **options: Any) -> Any:
        consumer = make_consumer(settings, **options)
        commit = consumer.commit

        async def commit_and_die(offsets: Any = None) -> None:
            fuse.at("before_commit")
            await commit(offsets)
            fuse.at("after_commit")

        consumer.commit = commit_and_die
        return consumer

    _replace(workers.stream.app, "open_store", open_mortal)
    _replace(ListPublisher, "publish", publish_and_die)
    _replace(events_service, "async_consumer", mortal_consumer)


def _replace(owner: object, name: str, by: object) -> None:
    """Replace a part of the worker. Raises AttributeError when there is no such part any more: the fault would never come."""
    getattr(owner, name)
    setattr(owner, name, by)


def _shorten_chunks(duplicate_chunk: int) -> None:
    load = workers.cli.worker.settings

    def shortened() -> Settings:
        made = load()
        return made.model_copy(update={"state": made.state.model_copy(update={"duplicate_chunk": duplicate_chunk})})

    _replace(workers.cli.worker, "settings", shortened)


def _jump(jumps: Sequence[tuple[float, float]]) -> None:
    """Move `time.time`, also where it was imported by name; the monotonic clock goes on."""
    true_time, born_s = time.time, time.monotonic()

    def wrong_time() -> float:
        life_s = time.monotonic() - born_s
        return true_time() + next((by_s for after_s, by_s in reversed(jumps) if life_s >= after_s), 0.0)

    time.time = wrong_time
    _patch_default(workers.stream.app.Pipeline.__init__, wrong_time)
    _patch_default(workers.stream.app.Intake.__init__, wrong_time)


def _patch_default(function: Callable[..., Awaitable[Any] | None], clock: Callable[[], float]) -> None:
    """`wall_clock: … = time.time` was bound when the class was made."""
    function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), "wall_clock": clock}  # type: ignore[attr-defined]
