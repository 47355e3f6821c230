"""The public import for other programs: `EventPublisher` sends events, items and profiles; `StateReader` reads users and similar items,
`ListReader` lists and the rows of pages.

Neither torch, numba, Faust nor aiokafka is imported before it is used.
"""

from __future__ import annotations

from workers.client.checks import DryRun, check_not_ahead
from workers.client.list_reader import ListReader
from workers.client.publisher import EventPublisher, PublishError
from workers.client.reasons import reason_sentences
from workers.client.state_reader import Interaction, Neighbour, StateReader, UserEmbedding, UserState

__all__ = [
    "DryRun",
    "EventPublisher",
    "Interaction",
    "ListReader",
    "Neighbour",
    "PublishError",
    "StateReader",
    "UserEmbedding",
    "UserState",
    "check_not_ahead",
    "reason_sentences",
]
