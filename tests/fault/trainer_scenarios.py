"""Faults around the trainer: its disks, its process, its files, its topic, a second trainer. Each round ends with the same comparison."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import psutil

from tests.fault.registry import Lane, Round, scenario
from tests.fault.trainer_entry import FAULTS
from tests.fault.trainer_world import DEADLINE_S, ENOUGH, FIRST, MORE, ONE_ROUND, PAGE, PARTITIONS, POLL_S, World, world
from workers import storage
from workers.errors import Fatal, Transient
from workers.kafka.admin import admin_client
from workers.kafka.topics import provision
from workers.settings import Settings
from workers.trainer.event_log import EventLog


class Disk:
    """A folder whose file system can be full: a small one of its own where this process may mount, or injected errors."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self._folder, self._mounted = folder, mounted
        self._writes_left: int | None = None

    def fill(self, left: int) -> None:
        """From now on `left` small files fit."""
        if not self._mounted:
            self._writes_left = left
            return
        ballast = self._folder / "ballast"
        n_bytes = 0
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    n_bytes += file.write(b"x" * PAGE)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            file.truncate(max(n_bytes // PAGE - left, 0) * PAGE)

    def make_room(self) -> None:
        self._writes_left = None
        (self._folder / "ballast").unlink(missing_ok=True)

    def replace(self, path: str, content: bytes) -> None:
        """In the place of the storage's own write, where nothing is mounted."""
        if self._writes_left is not None and Path(path).is_relative_to(self._folder):
            if self._writes_left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._writes_left -= 1
        _true_replace(path, content)


_true_replace = storage.replace_file


@contextmanager
def small_disk(lane: Lane, folder: Path) -> Iterator[Disk]:
    """A file system of 1 MiB at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = lane.can("root") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    disk = Disk(folder, mounted)
    try:
        if mounted:
            yield disk
        else:
            with mock.patch.object(storage, "replace_file", disk.replace):
                yield disk
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=True)


@scenario("log_disk_full", alone=True)
async def log_disk_full(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The disk of the event log fills while events come, and has room again later: nothing is lost, and training starts."""
    with small_disk(lane, folder / "log") as disk:
        async with world(lane, chance, folder) as here:
            async with here.trainer() as (_, said):
                first = chance.randrange(50, ENOUGH - 50)
                await here.publish(first)
                if chance.random() < 0.5:
                    await here.until_logged()
                disk.fill(chance.randrange(0, 2))
                here.faults += 1
                await here.publish(FIRST + MORE - first)
                await here.until(lambda: said.count("WARNING", "waiting", "the disk is full") > 0, "a full disk is told")
                if here.store.champion("ials") is not None:
                    here.differ("a model was trained on a log that could not be written")
                disk.make_room()
                await here.until_logged()
                await here.until_said("ials-000001")
            await here.compare()
            return here.round()


@scenario("model_disk_full", alone=True)
async def model_disk_full(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The disk of the model store is full when a round wants to store its model: the round fails with a line, the next one works."""
    with small_disk(lane, folder / "models") as disk:
        async with world(lane, chance, folder) as here:
            left = chance.randrange(0, 4)
            disk.fill(left)
            here.faults += 1
            async with here.trainer() as (service, said):
                await here.publish(FIRST)
                await here.until(lambda: service.rounds == 1, "a round that fails")
                await here.until(lambda: said.count("WARNING", "ials", "failed", "the disk is full") == 1, "one line about the full disk")
                if here.store.champion("ials") is not None or await here.serving_said() is not None:
                    here.differ("a model serves that could not be stored")
                unfinished = set(here.store._folders("ials")) - set(here.store.versions("ials"))
                if unfinished:
                    here.differ(f"half a version was left: {sorted(unfinished)}")
                disk.make_room()
                await here.publish(MORE)
                await here.until(lambda: here.store.champion("ials") is not None, "the next round's model")
                await here.until_said(str(here.store.champion("ials")))
            await here.until_logged()
            await here.compare()
            return here.round()


@scenario("trainer_killed", alone=True)
async def trainer_killed(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """`kill -9` in every phase, one trainer after the other on one log; no child outlives its trainer, and the last one sets all right."""
    async with world(lane, chance, folder) as here:
        before: str | None = None
        for number, fault in enumerate(FAULTS):
            (folder / "survived").unlink(missing_ok=True)
            (folder / "child.pid").unlink(missing_ok=True)
            process = here.process(fault, nth=chance.randint(1, 2) if number < 2 else 1)
            if number < 2:  # below trainer.min_events: nothing is trained yet
                await here.until(lambda number=number: here.said_by_processes("trainer leads") > number, "a leader")  # type: ignore[misc]
                for _ in range(8):  # one after the other, so that they come in several polls, and in segments that merge
                    await here.publish(ENOUGH // 20)
                    await here.until(lambda process=process: process.exitcode is not None or here.logged(), "a segment")  # type: ignore[misc]
                    if process.exitcode is not None:
                        break
            elif fault == "training":
                await here.publish(FIRST - here.n_published)
            await here.until(lambda process=process: process.exitcode is not None, f"{fault}: the trainer is killed")  # type: ignore[misc]
            here.faults += 1
            if process.exitcode != -9:
                here.differ(f"{fault}: the trainer ended with {process.exitcode}")
            if fault in ("training", "saved"):
                child = int((folder / "child.pid").read_text())
                await here.until(lambda child=child: not _alive(child), f"{fault}: the training child ends")  # type: ignore[misc]
                if (folder / "survived").exists():
                    here.differ(f"{fault}: the training child outlived its trainer")
            champion = here.store.champion("ials")
            if (champion is not None) != (fault == "promoted"):
                here.differ(f"{fault}: {champion} is the champion")
            before = await here.serving_said()
            if before is not None:
                here.differ(f"{fault}: {before} was announced already")
        async with here.trainer() as (_, said):
            await here.until_said(str(here.store.champion("ials")))
            await here.until_logged()
            await here.until(lambda: said.count("announced again") > 0, "the promotion that was never announced is announced again")
        if len(here.store.versions("ials")) != 2:
            here.differ(f"the store holds {here.store.versions('ials')}, one saved and one promoted were expected")
        await here.compare()
        return here.round()


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


@scenario("two_trainers", alone=True)
async def two_trainers(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Two that both believe they lead write the same log and the same store all the time."""
    async with world(lane, chance, folder) as here:
        processes = [here.process() for _ in range(2)]
        try:
            await here.until(lambda: here.said_by_processes("trainer leads") == 2, "two leaders")
            await here.publish(FIRST)
            here.faults += 1
            deadline = time.monotonic() + 2 * DEADLINE_S
            while len(here.store.versions("ials")) < 2 or here.n_published < 2 * FIRST:  # both have trained, or one of them twice
                await here.publish(chance.randrange(MORE // 2, MORE * 2))
                await here.until_logged()
                if time.monotonic() > deadline:
                    raise TimeoutError("two trainers stored fewer than two versions")
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                await asyncio.to_thread(process.join, 20)
                if process.exitcode != 0:
                    here.differ(f"a trainer ended with {process.exitcode}")
                    process.kill()
        if "Traceback" in here.log_file.read_text():
            here.differ("a trainer printed a traceback")
        promoted = [entry.version for entry in here.store.history("ials")]
        if len(set(promoted)) != len(promoted):
            here.differ(f"a version was promoted twice: {promoted}")
        calm = here.settings.model_copy(update={"trainer": here.settings.trainer.model_copy(update={"every_events": 10**9})})
        async with here.trainer(calm) as (_, said):  # whoever leads next says what the store says; this one trains nothing more
            await here.until(lambda: said.count("trainer leads") > 0, "the next leader")
        await here.compare()
        return here.round()


DAMAGES = ("flipped", "truncated", "missing")


def damage(path: Path, how: str, chance: random.Random) -> None:
    """Flip one bit, cut the end off, or remove a file."""
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "flipped":
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    else:
        del content[chance.randrange(len(content)) :]
    path.write_bytes(content)


@scenario("model_corrupt", alone=True)
async def model_corrupt(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Three announced versions in a row are damaged before a worker loads them: it keeps the one before, and the trainer goes on."""
    async with world(lane, chance, folder) as here, here.worker() as worker, here.trainer() as (_, said):
        await here.publish(FIRST)
        await here.until_said("ials-000001")
        await worker.follow()
        for number, how in enumerate(chance.sample(DAMAGES, len(DAMAGES)), 2):
            await here.publish(MORE)
            version = f"ials-{number:06d}"
            await here.until_said(version)
            damage(folder / "models/ials" / version / "model.safetensors", how, chance)
            here.damaged.add(version)
            here.faults += 1
            errors = await worker.follow()
            if len(errors) != 1 or version not in errors[0] or "what served before goes on serving" not in errors[0]:
                here.differ(f"{how}: the worker says {errors}")
            if worker.serving != "ials-000001":
                here.differ(f"{how}: the worker serves {worker.serving}")
            if await worker.follow():
                here.differ(f"{how}: the worker says it again")
        await here.publish(MORE)
        await here.until_said("ials-000005")
        await here.until_logged()
        for version in here.damaged:
            if not said.count(version, "cannot be read and counts as none"):
                here.differ(f"the trainer did not say that {version} cannot be read")
        await here.compare(worker)
        return here.round()


@scenario("segment_corrupt", alone=True)
async def segment_corrupt(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """A segment is cut off between two terms, another one while the trainer runs: both are set aside and read from Kafka again."""
    async with world(lane, chance, folder, segment_events=chance.choice((60, 150)), every_events=ONE_ROUND) as here:
        async with here.trainer():
            await here.publish(chance.randrange(300, FIRST))
            await here.until_logged()
        _tear(here, chance.choice(EventLog(here.settings.trainer.log_url).segments()).name)
        async with here.trainer() as (_, said):
            await here.until_logged()
            await here.publish(FIRST)
            await here.until_logged()
            partition = chance.randrange(PARTITIONS)
            _tear(here, EventLog(here.settings.trainer.log_url).segments(partition)[-1].name)
            if chance.random() < 0.5:
                await here.publish(MORE)
            await here.until_logged()
        async with here.trainer() as (_, later):  # a segment that nothing was merged with is found when somebody leads anew
            await here.until(lambda: later.count("trainer leads") > 0, "another term")
            await here.until_logged()
            champion = here.store.champion("ials")
            if champion is None:
                here.differ("nothing was trained")
            else:
                await here.until_said(champion)
        if said.count("is set aside") + later.count("is set aside") != here.faults:
            here.differ(f"{here.faults} segments were torn, the trainer says: {[line for line in said.lines if 'set aside' in line]}")
        await here.compare()
        return here.round()


def _tear(here: World, name: str) -> None:
    damage(Path(here.settings.trainer.log_url) / name, "truncated", here.chance)
    here.faults += 1


@scenario("trainer_topic_recreated", alone=True)
async def trainer_topic_recreated(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The events topic is deleted and made again: the log of the old one is refused with a remedy and stays as it is; a new log works."""
    async with world(lane, chance, folder, every_events=ONE_ROUND) as here:
        async with here.trainer():
            await here.publish(FIRST)
            await here.until_said("ials-000001")
            await here.until_logged()
        old = _files(here)
        await asyncio.to_thread(_recreate, here.settings)
        here.faults += 1
        here.forget_events()
        await here.publish(chance.randrange(ENOUGH + 50, FIRST))
        async with here.trainer() as (service, said):
            await here.until(lambda: bool(service.crashed), "the trainer stops")
            if said.count("ERROR trainer:", "another topic of that name", "move trainer.log_url away") != 1:
                here.differ(f"the trainer says {said.lines}")
        if _files(here) != old:
            here.differ("the log of the old topic was changed")
        Path(here.settings.trainer.log_url).rename(folder / "old-log")
        async with here.trainer():
            await here.until_logged()
            await here.until_said("ials-000002")
        await here.compare()
        return here.round()


def _files(here: World) -> dict[str, bytes]:
    folder = Path(here.settings.trainer.log_url)
    return {segment.name: (folder / segment.name).read_bytes() for segment in EventLog(str(folder)).segments()}


def _recreate(settings: Settings) -> None:
    with admin_client(settings) as admin:
        admin.delete_topics([settings.topics.events])
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            provision(settings)
            return
        except (Transient, Fatal):  # a cluster deletes when it likes
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
