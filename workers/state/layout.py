"""Rules that every adapter of the state store shares: stored text, ranges, duplicate chunks and layouts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache

from workers.errors import Fatal
from workers.settings import Settings, StateSettings
from workers.state.port import LAYOUT_VERSION, Layout, Range, StoredItem, UserCommit, Watermark

_REMEDIES = {
    "layout_version": "stop the workers and run `recsys state rebuild`, which builds the state from the log, or go back to the version "
    "that wrote it",
    "partitions": "set topics.partitions back, or run `recsys state rebuild`",
    "item_groups": "set state.item_groups back, or run `recsys state rebuild`",
    "epoch_s": "set state.half_life_days back, or run `recsys state rebuild`",
    "duplicate_chunk": "set state.duplicate_chunk back, or run `recsys state rebuild`",
    "shown_items": "set state.shown_items back, or run `recsys state rebuild`, which counts impressions from the log",
}
OPTIONAL = {"shown_items": 0}
"""Fields of a layout that a stored one may lack, and what they are then."""


def layout_of(settings: Settings) -> Layout:
    """Return the layout that the settings ask for."""
    state = settings.state
    return Layout(
        settings.topics.partitions, state.item_groups, epoch_s_of(state), state.duplicate_chunk, shown_items=state.shown_items
    )


def layout_text(layout: Layout) -> str:
    """Return a layout as it is stored, as JSON. A part that is off is left out."""
    fields = asdict(layout)
    return json.dumps({name: value for name, value in fields.items() if name not in OPTIONAL or value}, sort_keys=True)


def epoch_s_of(state: StateSettings) -> int:
    """Return the length of an epoch: one half-life, in whole seconds."""
    return round(state.half_life_days * 86_400)


@lru_cache(1_024)  # every group answers with the same few
def parse_watermark(stored: bytes | None) -> Watermark | None:
    """Decode `topic id:last applied offset`; None or empty: there is none."""
    if not stored:
        return None
    topic_id, colon, last = stored.decode().rpartition(":")
    if not colon or not last.lstrip("-").isdigit():
        raise Fatal("a stored watermark is not `topic id:offset`: the namespace is used by something else, choose another redis.namespace")
    return Watermark(topic_id, int(last))


def parse_group_watermarks(fields: Mapping[bytes, bytes]) -> dict[int, Watermark]:
    """Decode an item group's hash of watermarks; its field `n` is none of them."""
    parsed = {int(partition): parse_watermark(stored) for partition, stored in fields.items() if partition != b"n"}
    return {partition: watermark for partition, watermark in parsed.items() if watermark is not None}


def parse_stored_item(stored: bytes | None) -> StoredItem | None:
    """Decode `partition:offset:` and JSON, or nothing behind it for a removed item; None: there is nothing."""
    if not stored:
        return None
    partition, source_offset, content = stored.split(b":", 2)
    return StoredItem(int(partition), int(source_offset), content or None)


def parse_generation(stored: bytes | None) -> int:
    """Return the number of the active generation; 0 if none is stored."""
    if stored is None:
        return 0
    if not stored.isdigit():
        raise Fatal("the stored generation is no number: the namespace is used by something else, choose another redis.namespace")
    return int(stored)


def refuse_active(generation: int, active: int) -> None:
    """Raise Fatal if a generation that is to be dropped is the one that workers serve."""
    if generation == active:
        raise Fatal(f"generation {generation} of the state is the active one and is not dropped: rebuild into another one first")


def strip_prefix(stored: bytes | None) -> bytes | None:
    """Return the content after `partition:offset:`; None if there is none or it was removed."""
    return stored.split(b":", 2)[2] or None if stored else None


def compare_layouts(stored: bytes | None, wanted: Layout) -> None:
    """Raise Fatal naming the first field of the stored layout that differs from the wanted one, and the remedy."""
    try:
        found = json.loads(stored or b"")
    except ValueError:
        raise Fatal("the stored layout is not JSON: the namespace is used by something else, choose another redis.namespace") from None
    for name, value in sorted(asdict(wanted).items(), key=lambda field: field[0] != "layout_version"):
        there = found.get(name, OPTIONAL.get(name)) if isinstance(found, dict) else None
        if there != value:
            wants = "this version writes" if name == "layout_version" else "the settings say"
            raise Fatal(f"stored state has {name} {there!r}, {wants} {value!r}: {_REMEDIES[name]}")


def stored_layout(stored: bytes | None, namespace: str) -> Layout:
    """Return the layout that a namespace is stored in. Raises Fatal when it holds none, or one of another version."""
    if stored is None:
        raise Fatal(f"namespace {namespace} holds no state: correct redis.url and redis.namespace, or start a stream worker first")
    try:
        found = Layout(**json.loads(stored))
    except (ValueError, TypeError):
        raise Fatal("the stored layout cannot be read: the namespace is used by something else, choose another redis.namespace") from None
    if found.layout_version != LAYOUT_VERSION:
        remedy = "update this program" if found.layout_version > LAYOUT_VERSION else "run `recsys state rebuild`"
        raise Fatal(f"stored state has layout_version {found.layout_version!r}, this version reads {LAYOUT_VERSION}: {remedy}")
    return found


def parse_item_groups(stored: bytes | None) -> int:
    """Return the number of item groups of a stored layout; 0 if there is none that can be read."""
    try:
        found = json.loads(stored or b"null")
    except ValueError:
        return 0
    groups = found.get("item_groups") if isinstance(found, dict) else None
    return groups if isinstance(groups, int) and groups > 0 else 0


def validate_ranges(ranges: Sequence[Range]) -> None:
    """Raise ValueError unless there is a range, each partition comes once, and base < first ≤ last in all."""
    if not ranges:
        raise ValueError("apply_items needs at least one range")
    if len({source.partition for source in ranges}) != len(ranges):
        raise ValueError("apply_items takes one range a partition: apply several one after the other")
    for source in ranges:
        if not -1 <= source.base < source.first <= source.last:
            raise ValueError(f"range of partition {source.partition} needs base < first ≤ last: {source[2:]}")


def store_chunks(commit: UserCommit, chunk_offsets: int) -> tuple[dict[int, bytes], list[int]]:
    """Return the duplicate chunks of a commit to append, and those to delete: the newest offset's and the one before are kept."""
    oldest_kept = max(0, commit.new_last) // chunk_offsets - 1
    appended = {chunk: hashes for chunk, hashes in commit.duplicate_chunks.items() if hashes and chunk >= oldest_kept}
    held = commit.expected_last // chunk_offsets  # of the last commit; no older ones than the one before can be there
    dropped = [chunk for chunk in (held - 1, held) if 0 <= chunk < oldest_kept] if commit.expected_last >= 0 else []
    return appended, dropped
