"""Reads what a user did lately from the user's row in Redis, with the histories of ids that were merged into this one."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.state.user_table import unpack_row
from schemas.events import event_type_name
from workers.kafka.partitioner import partition_for
from workers.settings import Settings
from workers.state.merged_users import MergeReader, joined_rows, joining_table
from workers.stream.serving_state import ServingState

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Touch:
    """The newest thing a user did with one item."""

    item_id: str
    type: str
    event_ts_s: int


async def recent_touches(settings: Settings, state: ServingState, user_id: str, limit: int = SHOWN) -> list[Touch]:
    """Return the items that a user touched last, the newest first. Raises Transient."""

    def partition_of(one: str) -> int:
        return partition_for(one.encode(), settings.topics.partitions)

    store, user = state.store, (partition_of(user_id), user_id)
    own = (await store.read_users(user[0], [user_id]))[0]
    merges = await MergeReader(store, partition_of).read([user])
    packed = (await joined_rows(store, [(user, own)], merges, joining_table(settings))).get(user, own) if merges else own
    if packed is None:
        return []
    row, names = unpack_row(packed), state.numbering.names
    columns = zip(*(column[::-1][:limit].tolist() for column in row.columns.arrays), strict=True)
    return [
        Touch(names[number], event_type_name(code), last_s) for number, last_s, _, _, code, _, _ in columns if number < len(names)
    ]
