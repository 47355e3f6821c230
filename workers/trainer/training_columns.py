"""The events of the log as models see them: weighed, with their order of arrival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.models.descriptions import Descriptions, UserProfiles
from recsys.models.training_set import TrainingSet
from recsys.state.event_weights import event_weights
from schemas import EventType
from workers.models.manifest import TrainedOn
from workers.settings import WeightSettings
from workers.state.event_weights import weight_table_of
from workers.trainer.event_columns import EventColumns


@dataclass(frozen=True, slots=True)
class ShownColumns:
    """Impressions of the log, all (m,): `item_codes` index the log's item ids, `source_offsets` are in the user's partition."""

    user_codes: NDArray[np.int32]
    item_codes: NDArray[np.int32]
    ts_ms: NDArray[np.int64]
    source_offsets: NDArray[np.int64]

    @classmethod
    def of(cls, events: EventColumns) -> ShownColumns:
        """Return the events of type `impression`, those with a weight among them."""
        rows = np.flatnonzero(events.types == EventType.IMPRESSION.code)
        return cls(events.user_codes[rows], events.item_codes[rows], events.event_ts_ms[rows], events.source_offsets[rows])


@dataclass(frozen=True, slots=True)
class TrainingColumns:
    """The log as a model sees it. Shapes (n,); `item_codes` index `item_ids`, weights are those of the settings, `types` are codes.
    `descriptions` tell what items say and `profiles` what users do, by their codes, if it is known."""

    user_codes: NDArray[np.int32]
    item_codes: NDArray[np.int32]
    weights: NDArray[np.float32]
    ts_ms: NDArray[np.int64]
    item_ids: list[str]
    partitions: NDArray[np.int32]
    source_offsets: NDArray[np.int64]
    types: NDArray[np.int8]
    descriptions: Descriptions | None = None
    profiles: UserProfiles | None = None
    shown: ShownColumns | None = None
    """Impressions; None unless they were asked for."""

    @classmethod
    def of(cls, events: EventColumns, settings: WeightSettings, *, with_shown: bool = False) -> TrainingColumns:
        """Weigh the events; those of weight 0 are dropped. `with_shown` keeps impressions, apart from the events."""
        weights = event_weights(events.types, events.values, weight_table_of(settings))
        kept = weights != 0
        return cls(
            events.user_codes[kept],
            events.item_codes[kept],
            weights[kept],
            events.event_ts_ms[kept],
            events.item_ids,
            events.partitions[kept],
            events.source_offsets[kept],
            events.types[kept],
            shown=ShownColumns.of(events) if with_shown else None,
        )

    def arrivals(self, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return how far into its partition each event arrived, from 0 to 1, (n,); of `chosen` events (n,) how far into these.

        This is the order of arrival of one user's events, and about that of all. Events that are not chosen get 0.
        """
        chosen = np.ones(len(self), bool) if chosen is None else chosen
        arrivals = np.zeros(len(self), np.float64)
        for partition in np.unique(self.partitions).tolist():
            places = np.flatnonzero((self.partitions == partition) & chosen)
            if len(places):
                offsets = self.source_offsets[places]
                arrivals[places] = (offsets - offsets.min()) / max(int(offsets.max() - offsets.min()), 1)
        return arrivals

    def unseen_by(self, trained_on: TrainedOn, next_offsets: Mapping[int, int]) -> NDArray[np.bool_]:
        """Mark the events that a model has not seen, (n,): those that arrived after its training.

        `next_offsets` is where this log ends. A model that has read further was trained on another log: the events newer than all of its
        own count.
        """
        if any(reached > next_offsets.get(partition, 0) for partition, reached in trained_on.next_offsets.items()):
            newer: NDArray[np.bool_] = self.ts_ms > trained_on.last_event_ts_ms
            return newer
        first_unread = np.zeros(int(self.partitions.max(initial=0)) + 1, np.int64)
        for partition, next_offset in trained_on.next_offsets.items():
            if partition < len(first_unread):
                first_unread[partition] = next_offset
        arrived: NDArray[np.bool_] = self.source_offsets >= first_unread[self.partitions]
        return arrived

    def training_set(
        self, left_out: NDArray[np.bool_] | None = None, *, min_item_count: int = 1, unseen: NDArray[np.bool_] | None = None
    ) -> TrainingSet:
        """Return the training set: all events but those `left_out` (n,). `unseen` marks what the warm start has not seen, (n,)."""
        kept = np.ones(len(self.ts_ms), bool) if left_out is None else ~left_out
        found = TrainingSet.from_columns(
            self.user_codes[kept],
            self.item_codes[kept],
            self.item_ids,
            self.weights[kept],
            self.ts_ms[kept],
            min_item_count=min_item_count,
            unseen=None if unseen is None else unseen[kept],
            types=self.types[kept],
        )
        profiles = None
        if self.profiles is not None and min_item_count <= 1:  # else the training set may have fewer users
            profiles = self.profiles.at(np.unique(self.user_codes[kept & (self.weights != 0)]).astype(np.int64))
        return replace(found, descriptions=self.descriptions, profiles=profiles)

    def __len__(self) -> int:
        return len(self.ts_ms)
