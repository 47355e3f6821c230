"""Fits what was kept of Redis and of the trainer's event log to topics that were restored into a new broker.

Both name the topic that they follow by its id, and a new broker gives it another one. The offsets are the same, so the new id is written
in its place. What is ahead of the topics (a kill can cost the topics their newest records) is given up: Redis is emptied, the event log is
moved aside, and workers and trainer read the topics again from the start.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.bootstrap import local_redis
from workers.errors import Fatal
from workers.kafka.records import Place
from workers.trainer.event_log import EventLog

_WATERMARK_KEY = re.compile(rb"\{[^}]*:([pg])(\d+)\}:wm")
_SCAN_COUNT = 1_000


def fit_redis(url: str, topic: str, topic_id: str, ends: Mapping[Place, int]) -> bool:
    """Let all watermarks name the topic by its new id; with one that is ahead of the topic, empty Redis and return False."""
    with local_redis(url) as client:
        marks = list(_watermarks(client))
        if any(last >= ends.get((topic, partition), 0) for _, partition, last in marks):
            client.flushdb()
            return False
        with client.pipeline(transaction=True) as together:
            for key, partition, last in marks:
                mark = f"{topic_id}:{last}"
                together.hset(key, str(partition), mark) if _is_group(key) else together.set(key, mark)
            together.execute()
    return True


def _watermarks(client: Any) -> Iterator[tuple[bytes, int, int]]:
    """Yield key, partition and last applied offset of every watermark of every namespace and generation."""
    for key in client.scan_iter(match="*:wm", count=_SCAN_COUNT):
        found = _WATERMARK_KEY.fullmatch(key)
        if found is None:
            continue
        if _is_group(key):
            for field, stored in client.hgetall(key).items():
                if field.isdigit():  # the hash also holds how many items have a number
                    yield key, int(field), _last(stored)
        else:
            yield key, int(found[2]), _last(client.get(key))


def _is_group(key: bytes) -> bool:
    found = _WATERMARK_KEY.fullmatch(key)
    return found is not None and found[1] == b"g"


def _last(stored: bytes) -> int:
    return int(stored.rpartition(b":")[2])


def fit_event_log(folder: Path, topic: str, topic_id: str, ends: Mapping[Place, int]) -> Path | None:
    """Let the event log name the topic by its new id; one that does not fit is moved aside, and its new place is returned."""
    stated = folder / "topic.json"
    if not stated.exists():
        return None
    try:
        fits = all(end <= ends.get((topic, partition), 0) for partition, end in EventLog(str(folder)).next_offsets().items())
        described = json.loads(stated.read_bytes())
    except (Fatal, ValueError, OSError):
        fits = False
    if fits:
        part = stated.with_suffix(".part")
        part.write_text(json.dumps(described | {"topic_id": topic_id}))
        part.replace(stated)
        return None
    return move_aside(folder)


def move_aside(folder: Path) -> Path:
    """Rename a folder to the first free name beside it, and return that."""
    return folder.rename(next(path for n in range(1, 10_000) if not (path := folder.with_name(f"{folder.name}.old-{n}")).exists()))
