"""A round for the texts of items: vectors by the language model of those whose text is new or has changed, stored as the next version.

Vectors are no opinion on what users like, so no gate judges them: the newest version serves. Whether they help is for the gates of the
recipe and of the maps that are made with them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.item_vectors import ItemVectors, text_digests
from workers.content_settings import ContentSettings
from workers.errors import Fatal
from workers.models.manifest import TrainedOn
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer.catalogue_file import read_items
from workers.trainer.progress import report
from workers.trainer.settling import KindResult, code_version
from workers.trainer.text_encoder import TextEncoder
from workers.trainer.training_columns import TrainingColumns

F32 = NDArray[np.float32]

REPORT_S = 30.0


class Encoder(Protocol):
    """A language model; `digest` identifies it, `width` is the number of dimensions D of its vectors."""

    digest: str
    width: int

    def encode(self, texts: Sequence[str]) -> F32:
        """Return the unit vectors of texts, (n, D)."""
        ...


def train_texts(
    catalogue: Path, columns: TrainingColumns, content: ContentSettings, trainer: TrainerSettings, store: ModelStore
) -> tuple[ItemVectors | None, KindResult]:
    """Bring the vectors of items' texts up to date. Return those that serve from now on, None for none, and what came of it.

    Raises: TextModelError for a language model that cannot be used, StoreError.
    """
    kind, started = ItemVectors.kind, time.monotonic()
    assert content.text_model is not None
    if store.is_retired(kind):
        why = f"the kind is retired; `recsys models rollback {kind}` or `promote` brings it back"
        return None, KindResult(kind, "skipped", None, None, why, {}, 0.0)
    champion = store.champion(kind)
    before = None if champion is None else _readable(store, champion)
    texts = {item.item_id: f"{item.title}\n{item.text}".strip() for item in read_items(catalogue)}
    events = np.bincount(columns.item_codes, minlength=len(columns.item_ids)).tolist()
    encoder = TextEncoder(content.text_model)
    vectors, n_computed = text_vectors(texts, dict(zip(columns.item_ids, events, strict=True)), encoder, content, before)
    train_s = time.monotonic() - started
    if not vectors.item_ids:
        return before, KindResult(kind, "skipped", None, champion, "no item has a title or a text", {}, train_s)
    if before is not None and not len(vectors.changed_since(before)) and len(vectors.item_ids) == len(before.item_ids):
        return before, KindResult(kind, "skipped", None, champion, "no text has changed", {}, train_s)
    return vectors, store_vectors(vectors, n_computed, store, train_s, trainer.keep_versions)


def _readable(store: ModelStore, version: str) -> ItemVectors | None:
    """Return stored vectors; None if they cannot be read, and are computed again."""
    try:
        content = store.load_stored(ItemVectors.kind, version).content
    except Fatal as error:
        report(f"WARNING {ItemVectors.kind}: {version} cannot be read, its vectors are computed again: {error}")
        return None
    return content if isinstance(content, ItemVectors) else None


@dataclass(frozen=True, slots=True)
class _Texts:
    """Texts of items, those that matter most first."""

    item_ids: list[str]
    texts: list[str]

    @classmethod
    def of(cls, texts: Mapping[str, str], counts: Mapping[str, int], most: int) -> _Texts:
        """Choose at most `most` texts: those of the items with the most events, of equal ones by id."""
        with_text = (item_id for item_id, text in texts.items() if text.strip())
        chosen = sorted(with_text, key=lambda item_id: (-counts.get(item_id, 0), item_id))
        if len(chosen) > most:
            report(f"text: {len(chosen) - most:,} items get no vector; raise content.text_items ({most:,})")
        return cls(chosen[:most], [texts[item_id] for item_id in chosen[:most]])


def text_vectors(
    texts: Mapping[str, str], counts: Mapping[str, int], encoder: Encoder, settings: ContentSettings, before: ItemVectors | None
) -> tuple[ItemVectors, int]:
    """Return the vectors of items' `texts`, by item id, and how many were computed; those of `before` whose text and language model are the
    same are kept. What the time does not suffice for is left out. `counts` are events by item id."""
    found = _Texts.of(texts, counts, settings.text_items)
    digests = text_digests(found.texts, encoder.digest)
    vectors, known = np.zeros((len(found.texts), encoder.width), np.float16), np.zeros(len(found.texts), np.bool_)
    if before is not None and before.encoder == encoder.digest and before.width == encoder.width:
        place = {tuple(digest): at for at, digest in enumerate(before.digests.tolist())}
        there = np.fromiter((place.get(tuple(digest), -1) for digest in digests.tolist()), np.int64, len(digests))
        known = there >= 0
        vectors[known] = before.vectors[there[known]]
    missing = np.flatnonzero(~known)
    started = reported = time.monotonic()
    n_done = 0
    for batch in _batches(missing, found.texts, settings.text_batch):
        now = time.monotonic()
        if now - started > settings.text_seconds:
            report(f"text: content.text_seconds is up after {n_done:,} of {len(missing):,} texts; the next round goes on")
            break
        if now - reported > REPORT_S:
            report(f"text: {n_done:,} of {len(missing):,} texts")
            reported = now
        vectors[batch] = encoder.encode([found.texts[at] for at in batch.tolist()])
        known[batch] = True
        n_done += len(batch)
    ids = [item_id for item_id, is_known in zip(found.item_ids, known.tolist(), strict=True) if is_known]
    return ItemVectors(ids, vectors[known], digests[known], encoder.digest), n_done


def _batches(missing: NDArray[np.int64], texts: Sequence[str], size: int) -> list[NDArray[np.int64]]:
    """Divide the places of texts into batches of `size`, of about equal length within a thousand texts: each costs as its longest one."""
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(missing), 1_024):
        part = missing[start : start + 1_024]
        part = part[np.argsort([len(texts[at]) for at in part.tolist()], kind="stable")]
        batches += [part[at : at + size] for at in range(0, len(part), size)]
    return batches


def store_vectors(vectors: ItemVectors, n_computed: int, store: ModelStore, train_s: float, keep: int) -> KindResult:
    """Store vectors as the next version and let it serve; nothing if they are those that serve."""
    kind, champion = ItemVectors.kind, store.champion(ItemVectors.kind)
    reason = f"{len(vectors.item_ids):,} items have a vector of their text, {n_computed:,} of them are new"
    now_ms = int(time.time() * 1000)
    manifest = store.save(
        vectors,
        parent=champion,
        metrics={},
        decision=reason,
        trained_on=TrainedOn(n_events=0, first_event_ts_ms=now_ms, last_event_ts_ms=now_ms, next_offsets={}),
        trained_ts_ms=now_ms,
        train_s=round(train_s, 3),
        refit=None,
        code_version=code_version(),
    )
    store.promote(kind, manifest.version, reason=reason)
    store.prune(kind, keep)
    return KindResult(kind, "promoted", manifest.version, champion, reason, {}, round(train_s, 3))
