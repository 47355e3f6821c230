"""The child process of one round of training, seen from the trainer."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from recsys.models.registry import ATTRIBUTE_KINDS, CONTENT_KINDS, PROFILE_MODELS
from workers.errors import Transient, WorkerError
from workers.models.model_files import LIST_MAKERS
from workers.settings import Settings
from workers.trainer.catalogue_file import save_catalogue
from workers.trainer.progress import MARK, TrainingProgress
from workers.trainer.settling import KindResult
from workers.trainer.topic_file import save_topic
from workers.trainer.training_job import TrainingJob

log = logging.getLogger(__name__)

END_GRACE_S = 10.0
"""After SIGTERM a child has so long before it is killed."""
LINE_BYTES = 4 * 1024 * 1024
"""Longest line of output that is kept; the rest of a longer one is read and dropped."""
SHOWN_CHARS = 500
CHUNK_BYTES = 65_536


class TrainingFailed(Transient):
    """A round of training gave no decision; the message says why and what to do."""


class _Said(BaseModel):
    """The last line of a child's output."""

    error: str | None
    results: Annotated[list[KindResult], Field(max_length=1_000)]


class TrainingProcess:
    """Starts, watches and ends one child at a time."""

    def __init__(self, settings: Settings, watch: Callable[[TrainingProgress], None] | None = None) -> None:
        """`watch` takes the progress of trainings by epochs."""
        self._settings, self._watch = settings, watch
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[bytes]] = []
        self._deadline: asyncio.TimerHandle | None = None
        self._late = False
        self._folder: TemporaryDirectory[str] | None = None

    @property
    def running(self) -> bool:
        """Return whether a round was started whose results were not taken yet."""
        return self._process is not None

    @property
    def done(self) -> bool:
        """Return whether the child has ended and its output was read to the end."""
        return self._process is not None and self._process.returncode is not None and all(task.done() for task in self._tasks)

    async def start(self, next_offsets: Mapping[int, int]) -> None:
        """Start a round over the log below `next_offsets`."""
        assert self._process is None
        job = TrainingJob.of(self._settings, next_offsets, await self._catalogue(), await self._profiles())
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "workers.trainer.child",
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._tasks = [asyncio.create_task(_last_line(process.stdout)), asyncio.create_task(_log_lines(process.stderr, self._watch))]
        self._late = False
        longest_s = (2 * self._settings.trainer.max_seconds + 60) * max(len(self._settings.trainer.kinds), 1)
        longest_s += 2 * 60 * self._settings.trainer.search_minutes
        longest_s += 2 * self._settings.content.text_seconds if self._settings.content.text_model is not None else 0
        self._deadline = asyncio.get_running_loop().call_later(longest_s, self._end_late)
        with suppress(ConnectionError):  # a child that died at once is seen by its exit code
            process.stdin.write(job.model_dump_json().encode())
            process.stdin.close()
        log.info("training starts: %s", ", ".join(self._settings.trainer.kinds))

    async def _catalogue(self) -> Path | None:
        """Write the catalogue to a file for a recipe, a ranker or what is learnt from content; None if there is none of these, or the
        catalogue cannot be read."""
        if {*LIST_MAKERS, *CONTENT_KINDS}.isdisjoint(self._settings.trainer.kinds) and not self._settings.content.is_on:
            return None
        path = self._file("catalogue")
        try:
            n_items = await save_catalogue(self._settings, path)
        except (WorkerError, OSError) as error:
            log.warning("no recipe or ranker is trained and nothing is learnt from content, the catalogue cannot be read: %s", error)
            return None
        log.debug("%d items in the catalogue", n_items)
        return path

    async def _profiles(self) -> Path | None:
        """Write the profiles to a file for the training of segments; None if there are none to train, or profiles cannot be read."""
        if {*PROFILE_MODELS, *ATTRIBUTE_KINDS}.isdisjoint(self._settings.trainer.kinds):
            return None
        path = self._file("profiles")
        try:
            n_records = await save_topic(self._settings, self._settings.topics.users, path)
        except (WorkerError, OSError) as error:
            log.warning("no segments are trained, because profiles cannot be read: %s", error)
            return None
        log.debug("%d records of profiles", n_records)
        return path

    def _file(self, name: str) -> Path:
        """Return a path in the folder of this round, which is removed with it."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="recsys-training-")
        return Path(self._folder.name) / name

    def _end_late(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._late = True
            self._process.kill()

    async def results(self) -> list[KindResult]:
        """Return what the ended child decided. Raises TrainingFailed if it decided nothing."""
        assert self._process is not None
        try:
            code = await self._process.wait()
            last = (await asyncio.gather(*self._tasks))[0]
        finally:
            self._forget()
        try:
            said = _Said.model_validate_json(last)
        except ValidationError:
            raise TrainingFailed(f"training ended without a result: {self._why(code)}") from None
        if said.error is not None:
            raise TrainingFailed(f"training failed: {said.error[:SHOWN_CHARS]}")
        return said.results

    def _why(self, code: int) -> str:
        if self._late:
            return "it took longer than trainer.max_seconds allows; raise that, or lower trainer.factors"
        if code == -signal.SIGKILL:
            return "it was killed, perhaps for want of memory; give the trainer more memory, or lower trainer.factors"
        if code < 0:
            return f"it was ended by signal {-code}; look into the system's log"
        return f"exit code {code}; run with --log-level debug to see what it says"

    async def stop(self) -> None:
        """End a running child: SIGTERM, then SIGKILL."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), END_GRACE_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._forget()

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._folder is not None:
            self._folder.cleanup()
        self._process, self._deadline, self._tasks, self._folder = None, None, [], None


async def _last_line(stream: asyncio.StreamReader) -> bytes:
    last = b""
    async for line in _lines(stream):
        last = line.strip() or last
    return last


async def _log_lines(stream: asyncio.StreamReader, watch: Callable[[TrainingProgress], None] | None = None) -> bytes:
    async for line in _lines(stream):
        if line.startswith(f"{MARK} ".encode()):
            with suppress(ValidationError):
                progress = TrainingProgress.model_validate_json(line[len(MARK) + 1 :])
                if watch is not None:
                    watch(progress)
            continue
        said = "".join(c if c.isprintable() else " " for c in line[: 4 * SHOWN_CHARS].decode(errors="replace").rstrip())[:SHOWN_CHARS]
        level, _, text = said.partition(" ")
        known = {"ERROR": logging.ERROR, "WARNING": logging.WARNING, "DEBUG": logging.DEBUG}.get(level)
        log.log(known or logging.INFO, "training: %s", said if known is None else text)
    return b""


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length, of which LINE_BYTES are kept: a child that prints without end is read on, or it would wait for us."""
    line = b""
    while chunk := await stream.read(CHUNK_BYTES):
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            yield (line + part)[:LINE_BYTES]
            line = b""
        line = (line + rest)[:LINE_BYTES]
    if line:
        yield line
