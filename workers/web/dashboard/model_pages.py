"""Stored models as pages show them, rollback, and a training on request."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from recsys.evaluation.headline import GATE_METRIC
from recsys.lists.feature_names import FEATURES
from recsys.lists.recipe import Recipe
from schemas import ModelAction, ModelAnnouncement
from workers.errors import WorkerError, one_line
from workers.models.announcements import announce
from workers.models.lineage import lineage, measured_gain
from workers.models.manifest import Manifest, StoreError
from workers.models.store import ModelStore, open_model_store
from workers.runtime.redaction import redact
from workers.settings import Settings
from workers.web.dashboard.why import Part, bars
from workers.web.problems import Problem

CONTENDERS = ("challenger", "champion", "popularity", "recent_popularity")
HIT_METRIC = "recall@10"
SHOWN_VERSIONS = 12
SHOWN_WEIGHTS = 16
Z = 1.96
"""Standard errors on each side of an interval of 95 %."""
STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Version:
    """One stored version. `figures` are NDCG@10 by contender, `hits` the share of targets on the first ten places with its interval."""

    kind: str
    version: str
    serves: bool
    manifest: Manifest | None
    problem: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    hits: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of model with its versions, the newest first. `gain` is what it adds to the list, as the newest recipe says."""

    name: str
    champion: str | None
    can_roll_back: bool
    versions: list[Version]
    gain: dict[str, Any] | None
    problem: str = ""


class Trainings:
    """Runs `recsys models train` as a process of its own, one at a time."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "workers.cli", "models", "train", "--json")) -> None:
        self._command = command
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.started_s: float | None = None
        """Unix time when the running one began; None while none runs."""
        self.results: list[dict[str, Any]] = []
        self.failure = ""

    def start(self) -> None:
        """Begin a training. Raises Problem while one runs."""
        if self.started_s is not None:
            raise Problem(409, "a training is running already: wait until it has ended")
        self.started_s, self.results, self.failure = time.time(), [], ""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            said, errors = await self._process.communicate()
            try:
                self.results = orjson.loads(said)
            except orjson.JSONDecodeError:
                last = errors.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
                self.failure = redact(last)[:500] or f"it ended with code {self._process.returncode}"
        except OSError as error:
            self.failure = type(error).__name__
        finally:
            self.started_s = self._process = None

    async def wait(self) -> None:
        """Wait until the running one has ended."""
        if self._task is not None:
            await self._task

    async def close(self) -> None:
        """Stop a running one."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_S)


class ModelPages:
    """Reads the model store in threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        open_store: Callable[[Settings], ModelStore] = open_model_store,
        announcing: Callable[[Settings, list[ModelAnnouncement]], Awaitable[None]] = announce,
    ) -> None:
        self._settings, self._open_store, self._announce = settings, open_store, announcing

    async def kinds(self) -> list[Kind]:
        """Return all kinds that are stored. Raises WorkerError."""
        return await asyncio.to_thread(self._kinds)

    async def weights(self) -> tuple[str, list[Part]]:
        """Return the version of the recipe that serves and its largest weights; none of the default one."""
        return await asyncio.to_thread(self._weights)

    async def version(self, kind: str, version: str) -> tuple[Version, list[dict[str, Any]]]:
        """Return a version and those that it descends from. Raises Problem for one that is not stored."""
        return await asyncio.to_thread(self._version_page, kind, version)

    async def roll_back(self, kind: str, reason: str) -> tuple[str, str | None]:
        """Let the version before the present one serve, and announce it; return both. Raises Problem, WorkerError."""
        version, before, announcement = await asyncio.to_thread(self._rolled_back, kind, reason)
        await self._announce(self._settings, [announcement])
        return version, before

    def _kinds(self) -> list[Kind]:
        store = self._open_store(self._settings)
        found = []
        for name in store.kinds():
            versions = store.versions(name)
            try:
                champion, history = store.champion(name), store.history(name)
                served = {entry.version for entry in history if entry.action == "promoted"}
                gain = measured_gain(store, name)
            except WorkerError as error:
                found.append(Kind(name, None, False, [], None, redact(one_line(error))))
                continue
            shown = [_version(store, name, version, champion) for version in reversed(versions[-SHOWN_VERSIONS:])]
            found.append(Kind(name, champion, len(served) > 1 or (champion is None and bool(served)), shown, gain))
        return found

    def _weights(self) -> tuple[str, list[Part]]:
        store = self._open_store(self._settings)
        try:
            champion = store.champion(Recipe.kind) if Recipe.kind in store.kinds() else None
            recipe = None if champion is None else store.load_stored(Recipe.kind, champion).content
        except StoreError:  # the table of versions says so
            return "", []
        if champion is None or not isinstance(recipe, Recipe):
            return "", []
        return champion, bars(dict(zip(FEATURES, recipe.linear.tolist(), strict=True)))[:SHOWN_WEIGHTS]

    def _version_page(self, kind: str, version: str) -> tuple[Version, list[dict[str, Any]]]:
        store = self._open_store(self._settings)
        if kind not in store.kinds() or version not in store.versions(kind):
            raise Problem(404, "version: there is no such version in the model store", field="version")
        found = _version(store, kind, version, store.champion(kind))
        return found, [] if found.manifest is None else lineage(store, found.manifest)

    def _rolled_back(self, kind: str, reason: str) -> tuple[str, str | None, ModelAnnouncement]:
        store = self._open_store(self._settings)
        if kind not in store.kinds():
            raise Problem(404, "kind: there is no such kind in the model store", field="kind")
        before = store.champion(kind)
        try:
            version = store.rollback(kind, reason=reason)
        except StoreError as error:
            raise Problem(409, redact(one_line(error)), field="kind") from None
        return version, before, store.announcement(kind, version, ModelAction.ROLLED_BACK, champion=before, reason=reason)


def _version(store: ModelStore, kind: str, version: str, champion: str | None) -> Version:
    try:
        manifest, _ = store.manifest(kind, version)
    except WorkerError as error:
        return Version(kind, version, version == champion, None, redact(one_line(error)))
    judged = {who: manifest.metrics[who][GATE_METRIC] for who in CONTENDERS if GATE_METRIC in manifest.metrics.get(who, {})}
    own = manifest.metrics.get("challenger", {})
    hits = share_with_interval(own[HIT_METRIC], own["n_targets"]) if HIT_METRIC in own and own.get("n_targets") else None
    return Version(kind, version, version == champion, manifest, "", judged, hits)


def share_with_interval(share: float, n: float) -> tuple[float, float, float]:
    """Return a share of n independent trials with its interval of 95 %.

    Source: Wilson 1927.

    >>> [round(number, 3) for number in share_with_interval(0.5, 100)]
    [0.5, 0.404, 0.596]
    """
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return share, middle - half, middle + half
