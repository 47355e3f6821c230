"""Trainers that scenarios run and kill: the service itself without an election, wrapped from outside so that it dies where one wants it to.

`python -m tests.fault.trainer_entry PARENT` is the training child of such a trainer, in the place of
`python -m workers.trainer.child PARENT`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import workers.trainer.app
import workers.trainer.child
import workers.trainer.model_round
from workers.models.announcements import announce
from workers.models.store import ModelStore
from workers.settings import Settings, load_settings
from workers.storage import Storage
from workers.trainer.app import TrainerService
from workers.trainer.log_tail import LogTail
from workers.trainer.settling import KindResult
from workers.trainer.training_job import TrainingJob
from workers.trainer.training_round import run_job

FAULTS = ("tailing", "merging", "training", "saved", "promoted")
"""Where a trainer is killed: with records in hand that are not in the log, between writing a merged segment and removing its parts, while
its child trains, after the child has saved a version, and after the child has promoted one."""
CHILD_FAULT = "TRAINER_FAULT_OF_CHILD"
CHILD_FOLDER = "TRAINER_FAULT_FOLDER"
OUTLIVE_S = 30.0
"""A child that lives so long after its trainer would go on for ever, as far as the harness can tell."""


class Elected:
    """In the place of the Faust application: who asks is told that it leads, however many ask."""

    @staticmethod
    def is_leader() -> bool:
        return True


def leading(settings: Settings) -> TrainerService:
    """A trainer that believes it leads."""
    return TrainerService(Elected(), settings)  # type: ignore[arg-type]


class TrainingInside:
    """In the place of the training process, for scenarios whose fault is elsewhere: the same round in a thread, without 3 s of imports."""

    def __init__(self, settings: Settings, watch: Callable[[Any], None] | None = None) -> None:
        del watch  # a thread in a test tells nobody how far it is
        self._settings = settings
        self._round: asyncio.Task[list[KindResult]] | None = None

    @property
    def running(self) -> bool:
        return self._round is not None

    @property
    def done(self) -> bool:
        return self._round is not None and self._round.done()

    async def start(self, next_offsets: Mapping[int, int]) -> None:
        self._round = asyncio.create_task(asyncio.to_thread(run_job, TrainingJob.of(self._settings, next_offsets)))

    async def results(self) -> list[KindResult]:
        assert self._round is not None
        ended, self._round = self._round, None
        return await ended

    async def stop(self) -> None:
        if self._round is not None:
            await asyncio.gather(self._round, return_exceptions=True)
            self._round = None


def _replace(owner: object, name: str, by: object) -> None:
    setattr(owner, name, by)


def die() -> None:
    """As `kill -9` by somebody else: nothing is flushed or closed."""
    os.kill(os.getpid(), signal.SIGKILL)


def trainer_process(env: Mapping[str, str], log_file: str, fault: str | None, nth: int) -> None:
    """The whole life of a trainer process: leads from the start, dies at the `nth` time (from 1) that it comes by the fault."""
    with open(log_file, "ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.update(env)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    for library in ("aiokafka", "kafka"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    left = [nth]

    def passed() -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    if fault == "tailing":
        take = LogTail._take

        def take_and_die(self: LogTail, *arguments: Any) -> None:
            take(self, *arguments)
            passed()

        _replace(LogTail, "_take", take_and_die)
    elif fault == "merging":
        remove = Storage.remove

        def die_or_remove(self: Storage, name: str) -> None:
            if name.endswith(".parquet"):
                passed()
            remove(self, name)

        _replace(Storage, "remove", die_or_remove)
    elif fault == "promoted":

        async def die_or_announce(settings: Settings, announcements: Any) -> None:
            passed()
            await announce(settings, announcements)

        _replace(workers.trainer.app, "announce", die_or_announce)
    elif fault in ("training", "saved"):
        _other_child(fault, Path(log_file).parent)
    if fault is None:
        _replace(workers.trainer.app, "TrainingProcess", TrainingInside)
    asyncio.run(_until_told(load_settings()))


def _other_child(fault: str, folder: Path) -> None:
    execute = asyncio.create_subprocess_exec
    os.environ |= {CHILD_FAULT: fault, CHILD_FOLDER: str(folder), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}

    async def with_faults(*command: str, **arguments: Any) -> asyncio.subprocess.Process:
        return await execute(*(__spec_name__ if part == "workers.trainer.child" else part for part in command), **arguments)

    _replace(asyncio, "create_subprocess_exec", with_faults)


__spec_name__ = "tests.fault.trainer_entry"


async def _until_told(settings: Settings) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    service = leading(settings)
    await service.start()
    await told.wait()
    await service.stop()


def _orphan_itself() -> None:
    """Kill the trainer, and be gone soon: a file named `survived` says that it was not so."""
    folder = Path(os.environ[CHILD_FOLDER])
    (folder / "child.pid").write_text(str(os.getpid()))
    os.kill(int(sys.argv[1]), signal.SIGKILL)
    time.sleep(OUTLIVE_S)
    (folder / "survived").touch()


def child_main() -> int:
    """`workers.trainer.child` with the fault that the environment names."""
    fault = os.environ[CHILD_FAULT]
    if fault == "saved":

        def orphaned_promote(self: ModelStore, *arguments: Any, **keywords: Any) -> bool:
            _orphan_itself()
            raise AssertionError("survived")

        _replace(ModelStore, "promote", orphaned_promote)
    else:
        decide = workers.trainer.model_round.decide

        def orphaned_decide(*arguments: Any) -> Any:
            _orphan_itself()
            return decide(*arguments)

        _replace(workers.trainer.model_round, "decide", orphaned_decide)
    return workers.trainer.child.main()


if __name__ == "__main__":
    sys.exit(child_main())
