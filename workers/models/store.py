"""Stored models under an fsspec URL: safetensors, item ids and a manifest that is written last.

    <kind>/<version>/model.safetensors   tensors
    <kind>/<version>/items.json          item ids, in the order of the item axis
    <kind>/<version>/manifest.json       what they are: hashes, shapes, configuration, figures, data range
    <kind>/checkpoint/                   a training that is not finished (`checkpoints`)
    <kind>/champion.json                 promotions, rollbacks and retirements, oldest first; they decide which version serves

A folder without a manifest is a version that was never finished. Nothing is parsed before its hash is right, and every model is checked
before it serves: the store may be damaged, or others may write to it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from types import EllipsisType, MappingProxyType
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_core import from_json

from schemas import DataRange, ModelAction, ModelAnnouncement, ModelReference, limits
from workers.models.manifest import (
    ChampionMoved,
    Gain,
    Manifest,
    Refit,
    SearchOutcome,
    StoreError,
    TrainedOn,
    first_problem,
    printable_line,
)
from workers.models.manifest_files import MAX_MANIFEST_BYTES, ManifestFiles
from workers.models.serving_history import LAYOUT, ChampionEntry, ChampionFile, before_last, served_versions
from workers.settings import Settings
from workers.storage import NotOurFile, Storage

if TYPE_CHECKING:
    from recsys.models.base import Model
    from workers.models.model_files import ModelFiles, Servable, StoredModel

MAX_VERSION = 999_999_999_999
KEPT_VERSIONS = 10
"""Finished versions of a kind that `prune` keeps besides those one can roll back to."""
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")


class ModelStore:
    """Stores the versions of every model kind, and which of them serves."""

    def __init__(self, url: str) -> None:
        self.storage = Storage(url)
        self._manifests = ManifestFiles(self.storage)

    @cached_property
    def _files(self) -> ModelFiles:
        """The files of the models; their libraries are imported where a model is read or written."""
        from workers.models.model_files import ModelFiles

        return ModelFiles(self.storage)

    def kinds(self) -> list[str]:
        """Return the kinds that have a folder."""
        return [name for name in self.storage.names() if _KIND.fullmatch(name)]

    def versions(self, kind: str) -> list[str]:
        """Return the finished versions, oldest first."""
        return [version for version in self._folders(kind) if self.storage.exists(f"{kind}/{version}/manifest.json")]

    def next_version(self, kind: str) -> str:
        """Return a version above all earlier ones, unfinished ones included: `ials-000003`."""
        numbers = [_number(version) for version in self._folders(kind)]
        numbers += [_number(entry.version) for entry in self.history(kind)]
        number = max(numbers, default=0) + 1
        if number > MAX_VERSION:
            raise StoreError(f"{kind}: no version number is left after {number - 1}; move the folder of that version away")
        return f"{kind}-{number:06d}"

    def save(
        self,
        model: Servable,
        *,
        parent: str | None,
        metrics: Mapping[str, Mapping[str, float]],
        decision: str,
        trained_on: TrainedOn,
        trained_ts_ms: int,
        train_s: float,
        refit: Refit | None,
        code_version: str,
        seed: int | None = None,
        search: SearchOutcome | None = None,
        gains: Mapping[str, Gain] = MappingProxyType({}),
    ) -> Manifest:
        """Store a model, a recipe or a ranker as the next version of its kind.

        Two processes that save at once get different versions. A version that could not be stored whole leaves nothing behind. Raises
        StoreError when the model could not be loaded again, Transient when the storage is full.
        """
        from workers.models.model_files import pack

        packed = pack(model)
        while not self.storage.claim(f"{model.kind}/{(version := self.next_version(model.kind))}"):
            pass  # another process has just taken that number
        try:
            manifest = Manifest(
                kind=packed.kind,
                version=version,
                parent=parent,
                config=packed.config,
                tensors=packed.tensors,
                n_items=packed.n_items,
                files=self._files.write(version, packed),
                metrics={who: dict(figures) for who, figures in metrics.items()},
                decision=printable_line(decision),
                trained_on=trained_on,
                trained_ts_ms=trained_ts_ms,
                train_s=train_s,
                refit=refit,
                seed=seed,
                search=search,
                gains=dict(gains),
                code_version=code_version,
            )
            self._files.write_manifest(manifest)
        except BaseException as error:
            with suppress(Exception):  # the first error is the one to raise
                self.storage.remove(f"{packed.kind}/{version}")
            if isinstance(error, ValidationError):
                raise StoreError(f"{version}: it cannot be described, {first_problem(error)}") from None
            raise
        return manifest

    def manifest(self, kind: str, version: str) -> tuple[Manifest, str]:
        """Return a version's manifest and its SHA-256. Raises StoreError."""
        _check_names(kind, version)
        return self._manifests.read_manifest(kind, version)

    def load(self, kind: str, version: str, *, manifest_sha256: str | None = None) -> Model:
        """Return the model of a version, checked as `load_stored` does."""
        return self.load_stored(kind, version, manifest_sha256=manifest_sha256).model

    def load_stored(self, kind: str, version: str, *, manifest_sha256: str | None = None) -> StoredModel:
        """Load and check a version. Every hash is checked before its file is parsed.

        Raises: StoreError if anything is missing, damaged, too large, or not what the manifest (or `manifest_sha256` of an announcement)
        says.
        """
        _check_names(kind, version)
        return self._files.load(kind, version, manifest_sha256)

    def load_announced(self, announcement: ModelAnnouncement) -> StoredModel | None:
        """Load the version that serves after an announcement, if its manifest is the announced one; None if none serves."""
        serving = announcement.serving
        return None if serving is None else self.load_stored(announcement.kind, serving.version, manifest_sha256=serving.manifest_sha256)

    def history(self, kind: str) -> list[ChampionEntry]:
        """Return promotions, rollbacks and retirements, oldest first. Raises StoreError if the file is damaged."""
        if _KIND.fullmatch(kind) is None:
            raise StoreError("model kind: use lower-case letters, digits and _, a letter first")
        try:
            found = ChampionFile.model_validate(from_json(self.storage.read(f"{kind}/champion.json", MAX_MANIFEST_BYTES)))
            history = found.history
            if any(entry.version.rsplit("-", 1)[0] != kind for entry in history):
                raise StoreError(f"{kind}: champion.json names a version of another kind; restore it, or remove it and promote a version")
            served_versions(history)
        except FileNotFoundError:
            return []
        except (ValueError, IndexError, NotOurFile):
            raise StoreError(f"{kind}: champion.json is not readable; restore it, or remove it and promote a version") from None
        return history

    def champion(self, kind: str) -> str | None:
        """Return the version that serves; None before the first promotion, and of a retired kind."""
        served = served_versions(self.history(kind))
        return served[-1] if served else None

    def is_retired(self, kind: str) -> bool:
        """Return whether this kind was retired, and nothing was promoted since."""
        return self.retirement(kind) is not None

    def retirement(self, kind: str) -> ChampionEntry | None:
        """Return the entry that retired this kind; None if a version may serve."""
        history = self.history(kind)
        return history[-1] if history and history[-1].action == "retired" else None

    def retire(self, kind: str, *, reason: str = "", n_events: int | None = None) -> str:
        """Let no version serve until the next promotion or rollback; return the one that served. `n_events` are those of the log where the
        trainer decides that by itself. Raises StoreError without a version that serves."""
        with self.storage.locked(kind):
            history, champion = self.history(kind), self.champion(kind)
            if champion is None:
                raise StoreError(f"{kind}: no version serves, so there is nothing to retire; `recsys models list` shows what there is")
            entry = ChampionEntry(action="retired", version=champion, reason=printable_line(reason), at_ts_ms=_now_ms(), n_events=n_events)
            self._write_history(kind, [*history, entry])
        return champion

    def promote(
        self,
        kind: str,
        version: str,
        *,
        metrics: Mapping[str, float] | None = None,
        reason: str = "",
        judged_against: str | EllipsisType | None = ...,
    ) -> bool:
        """Let a finished version serve. Return whether that changed anything.

        `judged_against` is the champion that the decision was made against (None: there was none): if another one serves by now, nothing
        changes and ChampionMoved is raised. Left out, the version serves whatever served before.
        """
        self.manifest(kind, version)
        with self.storage.locked(kind):
            history, champion = self.history(kind), self.champion(kind)
            if judged_against is not ... and champion != judged_against:
                judged, serving = judged_against or "nothing", champion or "nothing"
                raise ChampionMoved(f"{version}: it was judged against {judged}, and {serving} serves now")
            if champion == version:
                return False
            why = printable_line(reason)
            entry = ChampionEntry(action="promoted", version=version, reason=why, at_ts_ms=_now_ms(), metrics=dict(metrics or {}))
            self._write_history(kind, [*history, entry])
        return True

    def rollback(self, kind: str, *, reason: str = "") -> str:
        """Let the version serve that served before the champion, and return it.

        Each further call goes one version back. Raises StoreError without one, or if that one is damaged.
        """
        with self.storage.locked(kind):
            history = self.history(kind)
            before = before_last(served_versions(history))
            if not before:
                raise StoreError(f"{kind}: no version served before the present one; `recsys models promote` lets another one serve")
            version = before[-1]
            assert version is not None
            self.load_stored(kind, version)
            entry = ChampionEntry(action="rolled_back", version=version, reason=printable_line(reason), at_ts_ms=_now_ms())
            self._write_history(kind, [*history, entry])
        return version

    def prune(self, kind: str, keep: int = KEPT_VERSIONS) -> list[str]:
        """Remove all but the newest `keep` versions and the last `keep` that served. Return the removed ones.

        Unfinished versions go when `keep` newer ones are finished: no process still writes them. The checkpoint of the kind goes too: the
        training that it was of has just ended.
        """
        finished = self.versions(kind)
        kept = {*finished[-keep:], *[version for version in served_versions(self.history(kind)) if version is not None][-keep:]}
        removed = [version for version in finished[:-1] if version not in kept]
        oldest = _number(finished[-keep]) if len(finished) >= keep else 0
        abandoned = [version for version in self._folders(kind) if _number(version) < oldest and version not in finished]
        for version in [*removed, *abandoned]:
            self.storage.remove(f"{kind}/{version}/manifest.json")  # first: without it the version is unfinished
            self.storage.remove(f"{kind}/{version}")
        self.storage.remove(f"{kind}/checkpoint")
        self.storage.sweep(kind)
        return removed

    def reference(self, kind: str, version: str) -> ModelReference:
        """Return a version as announcements name it."""
        _, sha256 = self.manifest(kind, version)
        return ModelReference(version=version, manifest_url=self.storage.url_of(f"{kind}/{version}/manifest.json"), manifest_sha256=sha256)

    def announcement(
        self, kind: str, version: str, action: ModelAction, *, champion: str | None, reason: str, now_ms: int | None = None
    ) -> ModelAnnouncement:
        """Return the announcement of a version; `champion` is the one that served before, left out if its manifest is unreadable."""
        manifest, sha256 = self.manifest(kind, version)
        before: ModelReference | None = None
        with suppress(StoreError):
            before = None if champion is None else self.reference(kind, champion)
        try:
            return ModelAnnouncement(
                kind=kind,
                version=version,
                action=action,
                manifest_url=self.storage.url_of(f"{kind}/{version}/manifest.json"),
                manifest_sha256=sha256,
                announced_ts_ms=_now_ms() if now_ms is None else now_ms,
                trained_ts_ms=manifest.trained_ts_ms,
                trained_on=DataRange(
                    first_event_ts_ms=manifest.trained_on.first_event_ts_ms,
                    last_event_ts_ms=manifest.trained_on.last_event_ts_ms,
                    n_events=manifest.trained_on.n_events,
                ),
                champion=before,
                challenger_metrics=manifest.metrics.get("challenger", {}),
                champion_metrics=manifest.metrics.get("champion", {}),
                reason=printable_line(reason)[: limits.REASON_MAX_CHARS],
            )
        except ValidationError as error:
            problem = first_problem(error)
            raise StoreError(f"{version}: its manifest cannot be announced, {problem}; restore it or promote another one") from None

    def _write_history(self, kind: str, history: list[ChampionEntry]) -> None:
        content = {"layout": LAYOUT, "history": [entry.model_dump() for entry in history]}
        self.storage.write(f"{kind}/champion.json", json.dumps(content, indent=1).encode())

    def _folders(self, kind: str) -> list[str]:
        if _KIND.fullmatch(kind) is None:
            raise StoreError("model kind: use lower-case letters, digits and _, a letter first")
        pattern = re.compile(re.escape(kind) + r"-[0-9]{6,12}")
        found = [name for name in self.storage.names(kind) if pattern.fullmatch(name)]
        return sorted(found, key=_number)


def open_model_store(settings: Settings) -> ModelStore:
    """Return the store that `trainer.model_url` names."""
    return ModelStore(settings.trainer.model_url)


def _check_names(kind: str, version: str) -> None:
    if _KIND.fullmatch(kind) is None or re.fullmatch(re.escape(kind) + r"-[0-9]{6,12}", version) is None:
        raise StoreError("model version: expected <kind>-<number of six digits>; `recsys models list` shows what there is")


def _number(version: str) -> int:
    return int(version.rsplit("-", 1)[1])


def _now_ms() -> int:
    return int(time.time() * 1000)
