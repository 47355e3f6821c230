"""Stored models under an fsspec URL: safetensors, item ids and a manifest that is written last.

    <kind>/<version>/model.safetensors   tensors
    <kind>/<version>/items.json          item ids, in the order of the item axis
    <kind>/<version>/manifest.json       what they are: hashes, shapes, configuration, figures, data range
    <kind>/champion.json                 promotions, rollbacks and retirements, oldest first; they decide which version serves

A folder without a manifest is a version that was never finished. Nothing is parsed before its hash is right, and every model is checked
before it serves: the store may be damaged, or others may write to it.
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
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from recsys.errors import CoreError
from recsys.models.base import Model
from recsys.models.checks import check_model
from recsys.models.registry import load_model
from schemas import DataRange, ModelAction, ModelAnnouncement, ModelReference, limits
from schemas.fields import Count, Id, Name, TimestampMs
from workers.errors import Fatal, Transient, WorkerError, describe, one_line
from workers.settings import Settings
from workers.storage import NotOurFile, Storage

LAYOUT = 1
MAX_VERSION = 999_999_999_999
MAX_TENSOR_BYTES = 2 * 1024**3
"""Eight million items at 64 factors. A worker holds a model twice while it is loaded, so a larger one would end it for want of memory."""
MAX_ITEMS_BYTES = 256 * 1024**2
HEADER_BYTES = 1024**2
"""What a file of tensors may have besides its numbers."""
MAX_MANIFEST_BYTES = 16 * 1024**2
MAX_TENSORS = 1_024
MAX_ITEMS = 10_000_000
MAX_HISTORY_ENTRIES = 100_000
MAX_DECISION_CHARS = 4_096
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
Line = Annotated[str, Field(max_length=MAX_DECISION_CHARS, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Text for people: no control characters, which a terminal would obey."""
Metrics = Annotated[dict[Name, float], Field(max_length=limits.MAX_METRICS)]
Seconds = Annotated[float, Field(ge=0, le=limits.MAX_NUMBER)]
_ITEM_IDS = TypeAdapter(Annotated[list[Id], Field(max_length=MAX_ITEMS)])


class TensorShape(_Record):
    """One tensor of the file."""

    shape: Annotated[tuple[Annotated[int, Field(ge=0, le=limits.MAX_SAFE_INTEGER)], ...], Field(max_length=8)]
    dtype: Literal["float32", "float64", "int32", "int64"]


class StoredFile(_Record):
    """One file beside the manifest."""

    sha256: Sha256
    n_bytes: Annotated[int, Field(ge=0)]


class TrainedOn(_Record):
    """Which events a model has seen, its short last pass (`refit`) included."""

    n_events: Count
    first_event_ts_ms: TimestampMs
    last_event_ts_ms: TimestampMs
    next_offsets: dict[Annotated[int, Field(ge=0, le=limits.MAX_PARTITION)], Annotated[int, Field(ge=0, le=limits.MAX_OFFSET)]]
    """Partition ▸ first offset that was not read."""


class Refit(_Record):
    """The short pass over all events that followed the judgement; the metrics are those of the model before it."""

    split_ts_ms: TimestampMs
    """Time of the oldest event that judged the model. Events before it trained the judged model; of those at that time, the later arrivals
    judged where they had to be divided."""
    metric: Name
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
    n_items: Annotated[int, Field(ge=1, le=MAX_ITEMS)]
    files: dict[Literal["model.safetensors", "items.json"], StoredFile]
    metrics: Annotated[dict[Name, Metrics], Field(max_length=limits.MAX_METRICS)]
    """By who was judged: `challenger` (this version), `champion`, `popularity`; all on the same slice."""
    decision: Line = ""
    """What the gate said, in one line."""
    trained_on: TrainedOn
    trained_ts_ms: TimestampMs
    train_s: Seconds
    refit: Refit | None = None
    code_version: Annotated[Line, Field(max_length=64)]


class ChampionEntry(_Record):
    """One change of what serves."""

    action: Literal["promoted", "rolled_back", "retired"]
    version: Version
    """What serves from here on; of a retirement what served until then."""
    reason: Line
    at_ts_ms: TimestampMs
    metrics: Metrics = {}


class _ChampionFile(_Record):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    history: Annotated[list[ChampionEntry], Field(max_length=MAX_HISTORY_ENTRIES)]


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
        number = max(numbers, default=0) + 1
        if number > MAX_VERSION:
            raise StoreError(f"{kind}: no version number is left after {number - 1}; move the folder of that version away")
        return f"{kind}-{number:06d}"

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
        model could not be loaded again, Transient when the storage is full.
        """
        try:
            check_model(model)
        except CoreError as error:
            raise StoreError(f"{error}; if training diverged, lower its learning rate") from None
        tensors = {name: np.ascontiguousarray(array) for name, array in model.tensors().items()}
        content, items = save_tensors(tensors), json.dumps(model.item_ids, ensure_ascii=False).encode()
        if len(content) > MAX_TENSOR_BYTES or len(items) > MAX_ITEMS_BYTES or len(model.item_ids) > MAX_ITEMS:
            raise StoreError(f"{model.kind}: {len(content):,} bytes for {len(model.item_ids):,} items are more than a model may have")
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
                decision=_line(decision),
                trained_on=trained_on,
                trained_ts_ms=trained_ts_ms,
                train_s=train_s,
                refit=refit,
                code_version=code_version,
            )
            described = manifest.model_dump_json(indent=1).encode()
            if len(described) > MAX_MANIFEST_BYTES:
                raise StoreError(f"{version}: its manifest would have {len(described):,} bytes, more than one may have")
            self.storage.write(f"{folder}/manifest.json", described)
        except ValidationError as error:
            with suppress(Exception):
                self.storage.remove(folder)
            raise StoreError(f"{version}: it cannot be described, {_first(error)}") from None
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
        except NotOurFile as error:
            raise StoreError(f"{version}: {error}") from None
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise StoreError(f"{version}: manifest.json, {_first(error)}; restore the file or promote another version") from None
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
        try:
            return self._load_checked(kind, version, manifest_sha256)
        except MemoryError:
            raise Transient(f"{version}: there is not enough memory to load it; give the process more") from None
        except (WorkerError, OSError):
            raise
        except KeyError as error:
            raise StoreError(f"{version}: kind or tensor {error!s:.80} is unknown to this version of the program; upgrade it") from None
        except (CoreError, TypeError, ValueError) as error:
            raise StoreError(f"{version}: {one_line(error)}; restore it or promote another version") from None
        except Exception as error:  # files that others may write to: whatever is met in them refuses the version
            raise StoreError(f"{version}: unexpected {describe(error)}; restore it or promote another version") from error

    def _load_checked(self, kind: str, version: str, manifest_sha256: str | None) -> StoredModel:
        manifest, found_sha256 = self.manifest(kind, version)
        if manifest_sha256 is not None and manifest_sha256 != found_sha256:
            raise StoreError(f"{version}: manifest.json is not the one that was announced; restore it or promote another version")
        claimed = sum(prod(tensor.shape) * np.dtype(tensor.dtype).itemsize for tensor in manifest.tensors.values())
        if claimed > MAX_TENSOR_BYTES:
            raise StoreError(f"{version}: the manifest claims {claimed:.3g} bytes of numbers, more than a model may have")
        if (file := manifest.files.get("model.safetensors")) is not None and file.n_bytes > claimed + HEADER_BYTES:
            raise StoreError(f"{version}: model.safetensors has {file.n_bytes:.3g} bytes, more than its tensors need")
        item_ids = self._item_ids(manifest)
        tensors = self._tensors(manifest)
        return StoredModel(manifest, found_sha256, load_model(kind, manifest.config, item_ids, tensors))

    def load_announced(self, announcement: ModelAnnouncement) -> StoredModel | None:
        """What serves after an announcement, from this store, with the announced manifest; None if nothing does."""
        serving = announcement.serving
        return None if serving is None else self.load_stored(announcement.kind, serving.version, manifest_sha256=serving.manifest_sha256)

    def history(self, kind: str) -> list[ChampionEntry]:
        """Promotions and rollbacks, oldest first. Raises StoreError if the file is damaged."""
        if _KIND.fullmatch(kind) is None:
            raise StoreError("model kind: use lower-case letters, digits and _, a letter first")
        try:
            found = _ChampionFile.model_validate(from_json(self.storage.read(f"{kind}/champion.json", MAX_MANIFEST_BYTES)))
            history = found.history
            if any(entry.version.rsplit("-", 1)[0] != kind for entry in history):
                raise StoreError(f"{kind}: champion.json names a version of another kind; restore it, or remove it and promote a version")
            _served(history)
        except FileNotFoundError:
            return []
        except (ValueError, IndexError, NotOurFile):
            raise StoreError(f"{kind}: champion.json is not readable; restore it, or remove it and promote a version") from None
        return history

    def champion(self, kind: str) -> str | None:
        """Return the version that serves; None before the first promotion, and of a retired kind."""
        served = _served(self.history(kind))
        return served[-1] if served else None

    def is_retired(self, kind: str) -> bool:
        """Whether a person retired this kind, and nothing was promoted since."""
        history = self.history(kind)
        return bool(history) and history[-1].action == "retired"

    def retire(self, kind: str, *, reason: str = "") -> str:
        """Let no version serve until the next promotion or rollback; return the one that served. Raises StoreError without one."""
        with self.storage.locked(kind):
            history, champion = self.history(kind), self.champion(kind)
            if champion is None:
                raise StoreError(f"{kind}: no version serves, so there is nothing to retire; `recsys models list` shows what there is")
            entry = ChampionEntry(action="retired", version=champion, reason=_line(reason), at_ts_ms=_now_ms())
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
            entry = ChampionEntry(action="promoted", version=version, reason=_line(reason), at_ts_ms=_now_ms(), metrics=dict(metrics or {}))
            self._write_history(kind, [*history, entry])
        return True

    def rollback(self, kind: str, *, reason: str = "") -> str:
        """Let the version serve that served before the champion, and answer it.

        Again and again it goes further back. Raises StoreError without one, or if that one is damaged.
        """
        with self.storage.locked(kind):
            history = self.history(kind)
            before = _before(_served(history))
            if not before:
                raise StoreError(f"{kind}: no version served before the present one; `recsys models promote` lets another one serve")
            version = before[-1]
            assert version is not None
            self.load_stored(kind, version)
            entry = ChampionEntry(action="rolled_back", version=version, reason=_line(reason), at_ts_ms=_now_ms())
            self._write_history(kind, [*history, entry])
        return version

    def prune(self, kind: str, keep: int = KEPT_VERSIONS) -> list[str]:
        """Remove all but the newest `keep` versions and the last few that served. Answers what was removed.

        Versions that were never finished go when `keep` newer ones are: nobody is writing them any more.
        """
        finished = self.versions(kind)
        kept = {*finished[-keep:], *[version for version in _served(self.history(kind)) if version is not None][-keep:]}
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
                reason=_line(reason)[: limits.REASON_MAX_CHARS],
            )
        except ValidationError as error:
            raise StoreError(f"{version}: its manifest cannot be announced, {_first(error)}; restore it or promote another one") from None

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
            content = self.storage.read(f"{manifest.kind}/{manifest.version}/{name}", min(max_bytes, stored.n_bytes))
        except FileNotFoundError:
            raise StoreError(f"{manifest.version}: {name} is missing; restore it or promote another version") from None
        except NotOurFile as error:
            raise StoreError(f"{manifest.version}: {error}") from None
        if hashlib.sha256(content).hexdigest() != stored.sha256:
            raise StoreError(
                f"{manifest.version}: {name} has another SHA-256 than the manifest says; restore it or promote another version"
            )
        return content

    def _item_ids(self, manifest: Manifest) -> list[str]:
        content = self._file(manifest, "items.json", MAX_ITEMS_BYTES)
        try:
            item_ids = _ITEM_IDS.validate_json(content)
        except ValidationError as error:
            raise StoreError(f"{manifest.version}: items.json, {_first(error)}; restore it or promote another version") from None
        if len(item_ids) != manifest.n_items:
            raise StoreError(f"{manifest.version}: items.json is not a list of {manifest.n_items} ids")
        return item_ids

    def _tensors(self, manifest: Manifest) -> dict[str, NDArray[Any]]:
        content = self._file(manifest, "model.safetensors", MAX_TENSOR_BYTES)
        try:
            tensors: dict[str, NDArray[Any]] = load_tensors(content)
            found = _shapes(tensors)
        except MemoryError:
            raise
        except Exception as error:  # SafetensorError, and what numpy says of types that it does not have
            text = f"{manifest.version}: model.safetensors is not a safetensors file of the types that models use"
            raise StoreError(f"{text} ({type(error).__name__})") from None
        if found != manifest.tensors:
            raise StoreError(f"{manifest.version}: model.safetensors holds other tensors than the manifest says")
        return tensors


def open_model_store(settings: Settings) -> ModelStore:
    """The store that `trainer.model_url` names."""
    return ModelStore(settings.trainer.model_url)


def _shapes(tensors: Mapping[str, NDArray[Any]]) -> dict[str, TensorShape]:
    return {name: TensorShape.model_validate({"shape": array.shape, "dtype": str(array.dtype)}) for name, array in tensors.items()}


def _served(history: list[ChampionEntry]) -> list[str | None]:
    """What served, oldest first; the last one serves now (None: the kind is retired). What was rolled back from is left out.

    Raises ValueError if the history goes back further than it goes.
    """
    served: list[str | None] = []
    for entry in history:
        if entry.action == "promoted":
            served.append(entry.version)
        elif entry.action == "retired":
            served.append(None)
        else:
            served = _before(served)
            if not served:
                raise ValueError("a rollback without anything to go back to")
    return served


def _before(served: list[str | None]) -> list[str | None]:
    """What served up to the version before the last one."""
    before = served[:-1]
    while before and before[-1] is None:
        before.pop()
    return before


def _line(text: str) -> str:
    """Text for people in one printable line."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_DECISION_CHARS]


def _first(error: ValidationError) -> str:
    """Where a record is wrong, and why; nothing of what it holds."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) if isinstance(part, int) else _line(part)[:40] for part in first["loc"])
    return f"{where or 'the whole'}: {_line(first['msg'])[:200]}"


def _number(version: str) -> int:
    return int(version.rsplit("-", 1)[1])


def _now_ms() -> int:
    return int(time.time() * 1000)
