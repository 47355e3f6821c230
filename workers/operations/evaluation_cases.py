"""Cases of `recsys evaluate`: from files, and from the event log of this deployment."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.cases import Cases
from recsys.evaluation.protocol import Slice, temporal_split
from recsys.evaluation.splits import one_by_one, split_rows, temporal
from workers.errors import SettingsError
from workers.operations.evaluation import Protocol
from workers.operations.evaluation_files import (
    TABLES,
    Interactions,
    Numbering,
    Tables,
    in_random_order,
    read_interactions,
    read_negatives,
    without_order,
)
from workers.settings import Settings
from workers.trainer.event_log import EventLog
from workers.trainer.training_columns import TrainingColumns

log = logging.getLogger(__name__)

SORTED = (
    "--train: every user's items are sorted in the same way, which says nothing of time: they are taken in a random order; "
    "give a table with event_ts_ms if you know when they were touched"
)
HELD_OUT = ("last-item", "full", "negatives")
"""Protocols whose test is given, or is each user's last item; the others split at a time."""


@dataclass(frozen=True)
class Files:
    """Paths of the files; `tables` says how those of them that are tables are read."""

    train: str
    test: str | None = None
    negatives: str | None = None
    tables: Tables = TABLES


def cases_of_files(files: Files, protocol: Protocol, holdout: float) -> Cases:
    """Read the files and cut them into cases. Raises SettingsError for files that do not fit each other or the protocol."""
    _check_files(files, protocol)
    users, items = Numbering(), Numbering()
    train = read_interactions("--train", files.train, users, items, files.tables)
    if without_order(train, len(items.ids)):
        log.warning("%s", SORTED)
        train = in_random_order(train)
    if protocol not in HELD_OUT:
        if not train.has_times:
            raise SettingsError(f"--train: protocol {protocol} needs times; give a table with the columns user_id, item_id and event_ts_ms")
        return _split_by_time(train, items.ids, protocol, holdout)
    if files.test is None:
        return _last_items(train, items.ids)
    test = read_interactions("--test", files.test, users, items, files.tables)
    user_ids = users.ids
    if protocol != "full":
        counts = np.bincount(np.array(test.users))
        if counts.max() > 1:
            name = user_ids[int(counts.argmax())]
            raise SettingsError(
                f"--test: protocol {protocol} needs one item for each user, user {name:.40} has {counts.max()}; give lines `user item`, "
                "or use --protocol full"
            )
    negatives = None
    if files.negatives is not None:
        negatives = read_negatives("--negatives", files.negatives, users, items, files.tables.reading.encoding)
    ours, theirs = train.columns(), test.columns()
    all_users, all_items, ts_ms = (np.concatenate(pair) for pair in zip(ours, theirs, strict=True))
    held = np.arange(len(all_users)) >= len(train.users)
    if negatives is not None:
        lacking = sorted(set(test.users) - negatives.keys())
        if lacking:
            raise SettingsError(f"--negatives: there are none for user {user_ids[lacking[0]]:.40}, who is in the test")
    weights = np.ones(len(all_users), np.float32)
    return split_rows(all_users, all_items, items.ids, weights, ts_ms, held, repeats=protocol != "full", candidates=negatives)


def cases_of_log(settings: Settings, protocol: Protocol, holdout: float, since_ms: int | None = None) -> Cases:
    """Read this deployment's event log, from `since_ms` on, and cut it into cases; events weigh what `weights` says.

    Raises SettingsError for a log without events, Fatal or Transient for one that cannot be read.
    """
    if protocol in ("full", "negatives"):
        raise SettingsError(f"--protocol {protocol}: it needs --train and --test; with --log use temporal, discovery, again or last-item")
    log = EventLog(settings.trainer.log_url, duplicate_chunk=settings.state.duplicate_chunk)
    columns = TrainingColumns.of(log.read(), settings.weights)
    kept = np.ones(len(columns), bool) if since_ms is None else columns.ts_ms >= since_ms
    if not kept.any():
        when = "" if since_ms is None else " from --since on"
        raise SettingsError(f"--log: the event log (setting trainer.log_url) holds no events of weight{when}")
    parts = (columns.user_codes[kept], columns.item_codes[kept], columns.item_ids, columns.weights[kept], columns.ts_ms[kept])
    if protocol == "last-item":
        part = Slice.cut(*parts, np.zeros(int(kept.sum()), bool))
        return _last_rows(part)
    return _checked(_at_time(Slice.cut(*parts, temporal_split(parts[4], holdout)), protocol), protocol)


def _check_files(files: Files, protocol: Protocol) -> None:
    if protocol in ("full", "negatives") and files.test is None:
        raise SettingsError(f"--test: protocol {protocol} needs it")
    if (protocol == "negatives") != (files.negatives is not None):
        raise SettingsError("--negatives: protocol negatives needs it, and only that one reads it")
    if protocol not in HELD_OUT and files.test is not None:
        raise SettingsError(f"--test: protocol {protocol} splits --train by time itself; leave --test out")


def _split_by_time(train: Interactions, item_ids: list[str], protocol: Protocol, holdout: float) -> Cases:
    users, items, ts_ms = train.columns()
    part = Slice.cut(users, items, item_ids, np.ones(len(users), np.float32), ts_ms, temporal_split(ts_ms, holdout))
    return _checked(_at_time(part, protocol), protocol)


def _at_time(part: Slice, protocol: Protocol) -> Cases:
    if protocol == "temporal":
        return temporal(part)
    return one_by_one(part, "again" if protocol == "again" else "discovery")


def _checked(cases: Cases, protocol: Protocol) -> Cases:
    if not len(cases):
        raise SettingsError(f"--protocol {protocol}: the newest events hold no target; give more events, or a larger --holdout")
    return cases


def _last_items(train: Interactions, item_ids: list[str]) -> Cases:
    users, items, ts_ms = train.columns()
    return _last_rows(Slice.cut(users, items, item_ids, np.ones(len(users), np.float32), ts_ms, np.zeros(len(users), bool)))


def _last_rows(part: Slice) -> Cases:
    """Return the cases of each user's newest preference, if there is another one before it."""
    liked = np.flatnonzero(part.weights > 0)
    ends = np.concatenate((part.users[liked][1:] != part.users[liked][:-1], [True])) if len(liked) else np.zeros(0, bool)
    last = liked[ends]
    last = last[last > np.searchsorted(part.users, part.users[last])]
    held = np.zeros(len(part.users), bool)
    held[last] = True
    if not len(last):
        raise SettingsError("--protocol last-item: no user has two items")
    kept = ~_after(part, last)
    return split_rows(
        part.users[kept], part.items[kept], part.item_ids, part.weights[kept], part.ts_ms[kept], held[kept], repeats=True
    )


def _after(part: Slice, last: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the rows behind a user's last preference, (n,): what happened after the test is not known before it."""
    ends = np.full(int(part.users.max(initial=-1)) + 1, len(part.users))
    ends[part.users[last]] = last
    return np.arange(len(part.users)) > ends[part.users]
