"""The part of a micro-batch that counts what was shown to users: impressions, and the choices that start a count again.

Shapes: s events, u users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.engine import Engine
from recsys.state.shown import ShownEvents
from schemas.events import EventType
from workers.stream.item_numbering import ItemNumbering
from workers.stream.micro_batch import Admitted, BatchUsers

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ShownBatch:
    """New impressions and choices of a batch, and their users."""

    admitted: Admitted
    users: BatchUsers

    @classmethod
    def of(cls, admitted: Admitted) -> ShownBatch:
        """Return the impressions and choices among the events that were admitted."""
        return cls(admitted, admitted.users_of(admitted.shown))

    @property
    def item_ids(self) -> list[str]:
        """Return the items of the events."""
        return self.admitted.item_ids_of(self.admitted.shown)

    def events(self, numbering: ItemNumbering, slot_of: Callable[[str], int]) -> ShownEvents:
        """Return the events for the engine, user after user in the order of `users`; their items have numbers, and the users slots. Notes
        that rows use these numbers."""
        order = np.argsort(self.users.of_events, kind="stable")
        places, item_ids, columns = self.admitted.shown[order], self.item_ids, self.admitted.events
        items = np.fromiter(map(numbering.numbers.__getitem__, item_ids), np.uint32, len(item_ids))[order]
        numbering.n_used = max(numbering.n_used, int(items.max(initial=0)) + 1)
        return ShownEvents(
            np.fromiter(map(slot_of, self.users.keys), np.int64, len(self.users.keys)),
            np.bincount(self.users.of_events, minlength=len(self.users.keys)).astype(np.int64),
            items,
            (np.asarray(columns.event_ts_ms, np.int64)[places] // 1000).astype(np.uint32),
            np.asarray(columns.types, np.int64)[places] == EventType.IMPRESSION.code,
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """Users to whom a batch shows something: their slots (u,), and by partition those for whom an item begins to rest by the frequency cap
    and who get no list with the batch: their list is deferred."""

    batch: ShownBatch
    slots: I64
    owed: Mapping[int, list[str]]

    @classmethod
    def learnt(cls, batch: ShownBatch, engine: Engine, events: ShownEvents, listed: BatchUsers) -> Shown:
        """Have the engine count a batch's impressions. `listed` are the users who get a list with the batch."""
        is_reached, here, owed = engine.learn_shown(events), set(listed.keys), dict[int, list[str]]()
        for at in np.flatnonzero(is_reached).tolist():
            if batch.users.keys[at] not in here:
                head = batch.users.heads[at]
                owed.setdefault(head.partition, []).append(head.user_id)
        return cls(batch, events.slots, owed)

    def rows(self, engine: Engine) -> dict[int, dict[str, bytes]]:
        """Return the packed rows of the users by partition."""
        rows: dict[int, dict[str, bytes]] = {}
        if engine.users.shown is not None:
            for head, row in zip(self.batch.users.heads, engine.users.shown.pack(self.slots), strict=True):
                rows.setdefault(head.partition, {})[head.user_id] = row
        return rows
