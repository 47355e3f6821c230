"""Lists that are made without an event: the one for everybody, those that hold an item which is gone, and lists of items; and what was
listed before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaProducer

from recsys.state.related import SIMILAR, TOGETHER
from workers.lists.policy_options import remembered_users
from workers.settings import Settings
from workers.stream.list_renewal import ListRenewal
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline
from workers.stream.related_lists import RelatedLists
from workers.stream.shared_lists import SharedLists
from workers.stream.trending_lists import TrendingLists

LOOK_S = 0.5
"""How often a worker looks whether such a list is due."""


def list_looks(
    settings: Settings, pipeline: Pipeline, partitions: Partitions, *, producer: Callable[[], AIOKafkaProducer]
) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return what a worker that makes lists does every LOOK_S while it is neither behind nor waits for anything, by name."""
    looks: dict[str, Callable[[], Awaitable[object]]] = {}
    if pipeline.ranks and settings.lists.shared_every_s:
        looks["shared_lists"] = SharedLists(settings, pipeline, partitions, producer=producer).look
    if pipeline.ranks and remembered_users(settings.lists):
        looks["list_renewal"] = ListRenewal(settings, pipeline, partitions).look
    for topic, is_on in ((SIMILAR, settings.related.similar), (TOGETHER, settings.related.bought_together)):
        if pipeline.ranks and is_on:
            looks[topic] = RelatedLists(settings, pipeline, partitions, topic, producer=producer).look
    if pipeline.ranks and settings.related.trending:
        looks["trending"] = TrendingLists(settings, pipeline, partitions, producer=producer).look
    return looks
