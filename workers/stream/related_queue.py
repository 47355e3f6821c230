"""Takes changed items out of the queues in the item groups, oldest first, and puts off those for which there is no time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.state.item_row import pack_records, parse_header, parse_row
from recsys.state.related import changed_row
from workers.state.port import Compaction, RowAddress, StateStore


@dataclass(frozen=True, slots=True)
class Queue:
    """One group's queue as it was read: the `numbers` of changed items, each once, in the order in which they changed first."""

    address: RowAddress
    generation: int
    bytes_read: int
    numbers: list[int]


async def read_queues(store: StateStore, topic: str, groups: Sequence[int]) -> list[Queue]:
    """Return the queues of these groups in which something is. Raises Transient, Fatal."""
    addresses: list[RowAddress] = [(group, changed_row(topic)) for group in groups]
    queues = []
    for address, row in zip(addresses, await store.read_rows(addresses), strict=True):
        if row is not None and len(numbers := in_order(row)):
            queues.append(Queue(address, parse_header(row)[0], len(row), numbers))
    return queues


def in_order(row: bytes) -> list[int]:
    """Return the items of a queue, each once, in the order in which they came first."""
    return list(dict.fromkeys(parse_row(row).neighbours.tolist()))


async def remove(store: StateStore, queue: Queue, done: Collection[int]) -> bool:
    """Take items out of a queue that have their lists; what came since it was read stays. Return False, and take nothing out, where another
    worker has changed the queue: those items come again."""
    left = np.array([number for number in queue.numbers if number not in done], np.uint32)
    body = pack_records(left, np.ones_like(left))
    group, row_id = queue.address
    return (await store.compact_rows(group, [Compaction(row_id, queue.generation, queue.bytes_read, body)]))[0] > 0
