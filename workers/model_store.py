"""Stored models under an fsspec URL: safetensors, item ids and a manifest that is written last.

    <kind>/<version>/model.safetensors   tensors
    <kind>/<version>/items.json          item ids, in the order of the item axis
    <kind>/<version>/manifest.json       what they are: hashes, shapes, configuration, figures, data range
    <kind>/champion.json                 promotions and rollbacks, oldest first; they decide which version serves

A folder without a manifest is a version that was never finished. Nothing is parsed before its hash is right.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from types import EllipsisType
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from recsys.errors import CoreError
from recsys.models.base import Model
from recsys.models.registry import load_model
from schemas import DataRange, ModelAction, ModelAnnouncement, ModelReference
from workers.errors import Fatal
from workers.settings import Settings
from workers.storage import Storage

LAYOUT = 1
MAX_TENSOR_BYTES = 8 * 1024**3
MAX_ITEMS_BYTES = 1024**3
MAX_MANIFEST_BYTES = 16 * 1024**2
MAX_TENSORS = 1_024
KEPT_VERSIONS = 10
"""Finished versions of a kind that `prune` keeps besides those one can roll back to."""
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")


class StoreError(Fatal):
    """A stored model is missing, damaged or not what its manifest says; the message says which part."""


class ChampionMoved(StoreError):
    """Another version serves by now than the one that a decision was made against."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}-[0-9]{6,12}$")]


class TensorShape(_Record):
    """One tensor of the file."""

    shape: tuple[Annotated[int, Field(ge=0)], ...]
    dtype: Literal["float32", "float64", "int32", "int64"]


class StoredFile(_Record):
    """One file beside the manifest."""

    sha256: Sha256
    n_bytes: Annotated[int, Field(ge=0)]


class TrainedOn(_Record):
    """Which events a model has seen, its short last pass (`refit`) included."""

    n_events: int
    first_event_ts_ms: int
    last_event_ts_ms: int
    next_offsets: dict[int, int]
    """Partition ▸ first offset that was not read."""


class Refit(_Record):
    """The short pass over all events that followed the judgement; the metrics are those of the model before it."""

    split_ts_ms: int
    """Events before this time trained the judged model, those from it on judged it."""
    metric: str
    judged: float
    after: float
    """The metric after the pass, on events the pass has seen: it only shows that the pass broke nothing."""


class Manifest(_Record):
    """Everything about one stored version but its numbers."""

    layout: Literal[1] = 1
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    version: Version
    parent: Version | None
    """The version it was warm-started from."""
    config: dict[str, Any]
    tensors: Annotated[dict[str, TensorShape], Field(max_length=MAX_TENSORS)]
    n_items: Annotated[int, Field(ge=0)]
    files: dict[Literal["model.safetensors", "items.json"], StoredFile]
    metrics: dict[str, dict[str, float]]
    """By who was judged: `challenger` (this version), `champion`, `popularity`; all on the same slice."""
    decision: str = ""
    """What the gate said, in one line."""
    trained_on: TrainedOn
    trained_ts_ms: int
    train_s: float
    refit: Refit | None = None
    code_version: str


class ChampionEntry(_Record):
    """One change of what serves."""

    action: Literal["promoted", "rolled_back"]
    version: Version
    """What serves from here on."""
    reason: str
    at_ts_ms: int
    metrics: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A loaded version. `manifest_sha256` is the hash an announcement names."""

    manifest: Manifest
    manifest_sha256: str
    model: Model


class ModelStore:
    """Versions of every model kind, and which of them serves."""

    def __init__(self, url: str) -> None:
        self.storage = Storage(url)

    def kinds(self) -> list[str]:
        """Kinds that have a folder."""
        return [name for name in self.storage.names() if _KIND.fullmatch(name)]

    def versions(self, kind: str) -> list[str]:
        """Finished versions, oldest first."""
        return [version for version in self._folders(kind) if self.storage.exists(f"{kind}/{version}/manifest.json")]

    def next_version(self, kind: str) -> str:
        """A version above all there ever were, unfinished ones included: `ials-000003`."""
        numbers = [_number(version) for version in self._folders(kind)]
        numbers += [_number(entry.version) for entry in self.history(kind)]
        return f"{kind}-{max(numbers, default=0) + 1:06d}"

    def save(
        self,
        model: Model,
        *,
        parent: str | None,
        metrics: Mapping[str, Mapping[str, float]],
        decision: str,
        trained_on: TrainedOn,
        trained_ts_ms: int,
        train_s: float,
        refit: Refit | None,
        code_version: str,
    ) -> Manifest:
        """Store a model as the next version of its kind.

        Two that save at once get versions of their own. What could not be stored whole leaves nothing behind. Raises StoreError when a
        tensor is not finite, Transient when the storage is full.
        """
        tensors = {name: np.ascontiguousarray(array) for name, array in model.tensors().items()}
        for name, array in tensors.items():
            if not np.isfinite(array).all():
                raise StoreError(f"tensor {name}: it holds numbers that are not finite; the training diverged, lower its learning rate")
        content, items = save_tensors(tensors), json.dumps(model.item_ids, ensure_ascii=False).encode()
        while not self.storage.claim(f"{model.kind}/{(version := self.next_version(model.kind))}"):
            pass  # somebody else has just taken that number
        folder = f"{model.kind}/{version}"
        try:
            manifest = Manifest(
                kind=model.kind,
                version=version,
                parent=parent,
                config=dict(model.config),
                tensors=_shapes(tensors),
                n_items=len(model.item_ids),
                files={
                    "model.safetensors": self._write_file(f"{folder}/model.safetensors", content),
                    "items.json": self._write_file(f"{folder}/items.json", items),
                },
                metrics={who: dict(figures) for who, figures in metrics.items()},
                decision=decision,
                trained_on=trained_on,
                trained_ts_ms=trained_ts_ms,
                train_s=train_s,
                refit=refit,
                code_version=code_version,
            )
            self.storage.write(f"{folder}/manifest.json", manifest.model_dump_json(indent=1).encode())
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                self.storage.remove(folder)
            raise
        return manifest

    def _write_file(self, name: str, content: bytes) -> StoredFile:
        return StoredFile(sha256=self.storage.write(name, content), n_bytes=len(content))

    def manifest(self, kind: str, version: str) -> tuple[Manifest, str]:
        """A version's manifest and its SHA-256. Raises StoreError."""
        self._check(kind, version)
        try:
            content = self.storage.read(f"{kind}/{version}/manifest.json", MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            raise StoreError(f"{version}: there is no such version of {kind}; `recsys models list` shows what there is") from None
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "manifest"
            raise StoreError(f"{version}: manifest.json, {where}: {first['msg']}; restore the file or promote another version") from None
        if (manifest.kind, manifest.version) != (kind, version):
            raise StoreError(f"{version}: manifest.json is of another version; restore the folder or promote another version")
        return manifest, hashlib.sha256(content).hexdigest()

    def load(self, kind: str, version: str, *, manifest_sha256: str | None = None) -> Model:
        """The model of a version, checked as `load_stored` does."""
        return self.load_stored(kind, version, manifest_sha256=manifest_sha256).model

    def load_stored(self, kind: str, version: str, *, manifest_sha256: str | None = None) -> StoredModel:
        """Load and check a version. Every hash is checked before its file is parsed.

        Raises: StoreError if anything is missing, damaged, too large, or not what the manifest (or `manifest_sha256` of an announcement)
        says.
        """
        manifest, found_sha256 = self.manifest(kind, version)
        if manifest_sha256 is not None and manifest_sha256 != found_sha256:
            raise StoreError(f"{version}: manifest.json is not the one that was announced; restore it or promote another version")
        cells = sum(prod(tensor.shape) for tensor in manifest.tensors.values())
        if cells * 4 > MAX_TENSOR_BYTES or manifest.n_items * 4 > MAX_ITEMS_BYTES:
            raise StoreError(f"{version}: the manifest claims {cells} numbers, more than a model may have")
        item_ids = self._item_ids(manifest)
        tensors = self._tensors(manifest)
        try:
            model = load_model(kind, manifest.config, item_ids, tensors)
        except KeyError as error:
            raise StoreError(f"{version}: kind or tensor {error} is unknown to this version of the program; upgrade it") from None
        except (CoreError, TypeError, ValueError) as error:
            raise StoreError(f"{version}: {error}") from None
        return StoredModel(manifest, found_sha256, model)

    def load_announced(self, announcement: ModelAnnouncement) -> StoredModel | None:
        """What serves after an announcement, from this store, with the announced manifest; None if nothing does."""
        serving = announcement.serving
        return None if serving is None else self.load_stored(announcement.kind, serving.version, manifest_sha256=serving.manifest_sha256)

    def history(self, kind: str) -> list[ChampionEntry]:
        """Promotions and rollbacks, oldest first. Raises StoreError if the file is damaged."""
        if _KIND.fullmatch(kind) is None:
            raise StoreError("model kind: use lower-case letters, digits and _, a letter first")
        try:
            content = json.loads(self.storage.read(f"{kind}/champion.json", MAX_MANIFEST_BYTES))
            return [ChampionEntry.model_validate(entry) for entry in content["history"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{kind}: champion.json is not readable; restore it, or remove it and promote a version") from None

    def champion(self, kind: str) -> str | None:
        """The version that serves, None before the first promotion."""
        served = self._served(kind)
        return served[-1] if served else None

    def promote(
        self,
        kind: str,
        version: str,
        *,
        metrics: Mapping[str, float] | None = None,
        reason: str = "",
        judged_against: str | EllipsisType | None = ...,
    ) -> bool:
        """Let a finished version serve. Answers whether that changed anything.

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
            entry = ChampionEntry(action="promoted", version=version, reason=reason, at_ts_ms=_now_ms(), metrics=dict(metrics or {}))
            self._write_history(kind, [*history, entry])
        return True

    def rollback(self, kind: str, *, reason: str = "") -> str:
        """Let the version serve that served before the champion, and answer it.

        Again and again it goes further back. Raises StoreError without one, or if that one is damaged.
        """
        with self.storage.locked(kind):
            served = self._served(kind)
            if len(served) < 2:
                raise StoreError(f"{kind}: no version served before the present one; `recsys models promote` lets another one serve")
            self.load_stored(kind, served[-2])
            entry = ChampionEntry(action="rolled_back", version=served[-2], reason=reason, at_ts_ms=_now_ms())
            self._write_history(kind, [*self.history(kind), entry])
        return served[-2]

    def prune(self, kind: str, keep: int = KEPT_VERSIONS) -> list[str]:
        """Remove all but the newest `keep` versions and the last few that served. Answers what was removed.

        Versions that were never finished go when `keep` newer ones are: nobody is writing them any more.
        """
        finished = self.versions(kind)
        kept = {*finished[-keep:], *self._served(kind)[-keep:]}
        removed = [version for version in finished[:-1] if version not in kept]
        oldest = _number(finished[-keep]) if len(finished) >= keep else 0
        abandoned = [version for version in self._folders(kind) if _number(version) < oldest and version not in finished]
        for version in [*removed, *abandoned]:
            self.storage.remove(f"{kind}/{version}/manifest.json")  # first: without it the version is unfinished
            self.storage.remove(f"{kind}/{version}")
        self.storage.sweep(kind)
        return removed

    def reference(self, kind: str, version: str) -> ModelReference:
        """How an announcement names a version."""
        _, sha256 = self.manifest(kind, version)
        return ModelReference(version=version, manifest_url=self.storage.url_of(f"{kind}/{version}/manifest.json"), manifest_sha256=sha256)

    def announcement(
        self, kind: str, version: str, action: ModelAction, *, champion: str | None, reason: str, now_ms: int | None = None
    ) -> ModelAnnouncement:
        """What the world is told about a version; `champion` is the one that served before, left out if its manifest is unreadable."""
        manifest, sha256 = self.manifest(kind, version)
        before: ModelReference | None = None
        with suppress(StoreError):
            before = None if champion is None else self.reference(kind, champion)
        trained_on = manifest.trained_on
        return ModelAnnouncement(
            kind=kind,
            version=version,
            action=action,
            manifest_url=self.storage.url_of(f"{kind}/{version}/manifest.json"),
            manifest_sha256=sha256,
            announced_ts_ms=_now_ms() if now_ms is None else now_ms,
            trained_ts_ms=manifest.trained_ts_ms,
            trained_on=DataRange(
                first_event_ts_ms=trained_on.first_event_ts_ms,
                last_event_ts_ms=trained_on.last_event_ts_ms,
                n_events=trained_on.n_events,
            ),
            champion=before,
            challenger_metrics=manifest.metrics.get("challenger", {}),
            champion_metrics=manifest.metrics.get("champion", {}),
            reason=reason[:1_024],
        )

    def _served(self, kind: str) -> list[str]:
        served: list[str] = []
        for entry in self.history(kind):
            if entry.action == "promoted":
                served.append(entry.version)
            else:
                served.pop()
        return served

    def _write_history(self, kind: str, history: list[ChampionEntry]) -> None:
        content = {"layout": LAYOUT, "history": [entry.model_dump() for entry in history]}
        self.storage.write(f"{kind}/champion.json", json.dumps(content, indent=1).encode())

    def _folders(self, kind: str) -> list[str]:
        if _KIND.fullmatch(kind) is None:
            raise StoreError("model kind: use lower-case letters, digits and _, a letter first")
        pattern = re.compile(re.escape(kind) + r"-[0-9]{6,12}")
        found = [name for name in self.storage.names(kind) if pattern.fullmatch(name)]
        return sorted(found, key=_number)

    def _check(self, kind: str, version: str) -> None:
        if _KIND.fullmatch(kind) is None or re.fullmatch(re.escape(kind) + r"-[0-9]{6,12}", version) is None:
            raise StoreError("model version: expected <kind>-<number of six digits>; `recsys models list` shows what there is")

    def _file(self, manifest: Manifest, name: Literal["model.safetensors", "items.json"], max_bytes: int) -> bytes:
        stored = manifest.files.get(name)
        if stored is None:
            raise StoreError(f"{manifest.version}: the manifest does not name {name}")
        try:
            content = self.storage.read(f"{manifest.kind}/{manifest.version}/{name}", max_bytes)
        except FileNotFoundError:
            raise StoreError(f"{manifest.version}: {name} is missing; restore it or promote another version") from None
        if hashlib.sha256(content).hexdigest() != stored.sha256:
            raise StoreError(
                f"{manifest.version}: {name} has another SHA-256 than the manifest says; restore it or promote another version"
            )
        return content

    def _item_ids(self, manifest: Manifest) -> list[str]:
        content = self._file(manifest, "items.json", MAX_ITEMS_BYTES)
        try:
            item_ids = json.loads(content)
        except ValueError:
            item_ids = None
        if not isinstance(item_ids, list) or len(item_ids) != manifest.n_items or not all(isinstance(i, str) for i in item_ids):
            raise StoreError(f"{manifest.version}: items.json is not a list of {manifest.n_items} ids")
        return item_ids

    def _tensors(self, manifest: Manifest) -> dict[str, NDArray[Any]]:
        content = self._file(manifest, "model.safetensors", MAX_TENSOR_BYTES)
        try:
            tensors: dict[str, NDArray[Any]] = load_tensors(content)
        except SafetensorError:
            raise StoreError(f"{manifest.version}: model.safetensors is not a safetensors file") from None
        found = _shapes(tensors)
        if found != manifest.tensors:
            raise StoreError(f"{manifest.version}: model.safetensors holds other tensors than the manifest says")
        return tensors


def open_model_store(settings: Settings) -> ModelStore:
    """The store that `trainer.model_url` names."""
    return ModelStore(settings.trainer.model_url)


def _shapes(tensors: Mapping[str, NDArray[Any]]) -> dict[str, TensorShape]:
    return {name: TensorShape.model_validate({"shape": array.shape, "dtype": str(array.dtype)}) for name, array in tensors.items()}


def _number(version: str) -> int:
    return int(version.rsplit("-", 1)[1])


def _now_ms() -> int:
    return int(time.time() * 1000)
