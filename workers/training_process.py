"""The child process of one round of training, seen from the trainer."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress

from workers.settings import Settings
from workers.training import KindResult, TrainingJob

log = logging.getLogger(__name__)

END_GRACE_S = 10.0
"""After SIGTERM a child has so long before it is killed."""
LINE_BYTES = 4 * 1024 * 1024
"""Longest line of output that is read."""


class TrainingProcess:
    """Starts, watches and ends one child at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[bytes]] = []
        self._deadline: asyncio.TimerHandle | None = None
        self._late = False

    @property
    def running(self) -> bool:
        """Whether a round was started whose results were not taken yet."""
        return self._process is not None

    @property
    def done(self) -> bool:
        """Whether the child has ended and said all it had to say."""
        return self._process is not None and self._process.returncode is not None and all(task.done() for task in self._tasks)

    async def start(self, next_offsets: Mapping[int, int]) -> None:
        """Start a round over the log below `next_offsets`."""
        assert self._process is None
        job = TrainingJob.of(self._settings, next_offsets)
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "workers.training",
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._tasks = [asyncio.create_task(_last_line(process.stdout)), asyncio.create_task(_log_lines(process.stderr))]
        self._late = False
        longest_s = (2 * self._settings.trainer.max_seconds + 60) * max(len(self._settings.trainer.kinds), 1)
        self._deadline = asyncio.get_running_loop().call_later(longest_s, self._end_late)
        with suppress(ConnectionError):  # a child that died at once is seen by its exit code
            process.stdin.write(job.model_dump_json().encode())
            process.stdin.close()
        log.info("training starts: %s", ", ".join(self._settings.trainer.kinds))

    def _end_late(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._late = True
            self._process.kill()

    async def results(self) -> list[KindResult]:
        """What the ended child decided; empty, and a warning logged, if it failed."""
        assert self._process is not None
        code = await self._process.wait()
        last = (await asyncio.gather(*self._tasks))[0]
        self._forget()
        try:
            said = json.loads(last)
            if said["error"] is not None:
                log.warning("training failed: %s", said["error"])
            return [KindResult(**result) for result in said["results"]]
        except (ValueError, KeyError, TypeError):
            why = "it took longer than trainer.max_seconds allows" if self._late else f"exit code {code}"
            log.warning("training ended without a result: %s", why)
            return []

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
        self._process, self._deadline, self._tasks = None, None, []


async def _last_line(stream: asyncio.StreamReader) -> bytes:
    last = b""
    async for line in stream:
        last = line.strip() or last
    return last


async def _log_lines(stream: asyncio.StreamReader) -> bytes:
    async for line in stream:
        said = line.decode(errors="replace").rstrip()[:500]
        log.log(logging.ERROR if said.startswith("ERROR ") else logging.INFO, "training: %s", said.removeprefix("ERROR "))
    return b""
