"""The stream worker: a Faust application. Its agents apply items, users and models; a service beside them consumes the events in
micro-batches."""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import faust

from schemas.dead_letters import DeadLetter
from workers.bootstrap import open_store
from workers.errors import Fatal
from workers.kafka.access_watch import AccessWatch
from workers.kafka.batch_publisher import ListPublisher, publish_dead_letters
from workers.kafka.connection import faust_arguments
from workers.kafka.records import Record
from workers.kafka.rights import explain
from workers.kafka.tracing import open_tracing
from workers.lists.policy_options import policy_options
from workers.lists.row_specs import row_specs
from workers.runtime.faust_app import WorkerApp
from workers.runtime.rounds import Rounds, patiently
from workers.runtime.status import WorkerStatus
from workers.runtime.threads import limit_threads
from workers.settings import Settings
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.measures import Measures
from workers.stream.model_sync import ModelFollower
from workers.stream.pipeline import Pipeline
from workers.stream.readiness import Readiness
from workers.stream.reference_loading import CatalogueLoader
from workers.stream.reference_topics import Intake
from workers.stream.service import EventsService
from workers.stream.shared_records import shared_policy
from workers.stream.stored_models import StoredModels
from workers.stream.warm_up import compile_lists

log = logging.getLogger(__name__)

RECORDS_AT_ONCE = 64
"""Records of a low-rate topic that are stored together; an item has up to a megabyte."""
BUFFERED_RECORDS = 64
"""Records of a low-rate topic that Faust holds ready for its agent."""
WITHIN_S = 0.1


class StreamApp(WorkerApp):
    """A Faust application whose services do not wait for its agents' consumer group.

    Faust starts services once its group has given it partitions, because tables may have to be read first. Here are none, and events must
    not wait when that group is stuck.
    """

    async def on_started(self) -> None:
        await self.on_started_init_extra_services()  # Faust's own call of it does nothing then
        await super().on_started()


def build_stream(settings: Settings, status: WorkerStatus | None = None) -> faust.App:
    """Return the stream worker of these settings, ready to run. Nothing is connected yet. `status` shows why it is not ready."""
    status = WorkerStatus() if status is None else status
    limit_threads(settings.stream.torch_threads)
    shared = [shared_policy(settings.lists)] if settings.lists.shared_every_s else []
    compile_lists([policy_options(settings.lists), *shared], row_specs(settings.lists.rows))
    _calm_garbage_collector()
    app = StreamApp(
        f"{settings.stream.group_id}-catalogue",
        **faust_arguments(settings),
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=settings.stream.web_port > 0,
        web_port=settings.stream.web_port or 6066,
        web_bind="127.0.0.1",
        web_host="127.0.0.1",
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        stream_buffer_maxsize=BUFFERED_RECORDS,
    )
    pipeline = Pipeline(settings, open_store(settings), ranks=settings.stream.publish_lists)
    pipeline.tracing = open_tracing(settings.tracing, "recsys-stream")
    state = pipeline.state
    catalogue = CatalogueFollower(state, status)
    stored = StoredModels(settings)
    models = ModelFollower(state, stored.load, stored.serving)
    readiness = Readiness(state, models)
    intake = Intake(settings, state, pipeline.lists, catalogue, readiness)
    service = EventsService(
        settings,
        pipeline,
        catalogue,
        models,
        CatalogueLoader(settings, state, intake, readiness),
        readiness,
        status,
        beacon=app.beacon,
        loop=app.loop,
    )
    intake.trimmed = service.metrics.trimmed
    app.service(service)
    app.service(Measures(app, service, beacon=app.beacon, loop=app.loop))
    app.service(AccessWatch(app, settings, "stream", status, beacon=app.beacon, loop=app.loop))
    _add_agents(app, settings, service, intake)
    return app


def _calm_garbage_collector() -> None:
    """Raise the collector's thresholds: batches make many short-lived lists and no cycles, and with the default ones half of the time goes
    into looking for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)


def _add_agents(app: faust.App, settings: Settings, service: EventsService, intake: Intake) -> None:
    """Add one agent a topic, at concurrency 1 (Faust 0.15 loses acknowledgements that come out of order above that)."""

    async def dead(letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            place = {"topic": letter.source_topic, "partition": letter.source_partition, "source_offset": letter.source_offset}
            log.warning("dead letter: %s", letter.reason, extra={"kind": letter.kind, **place})
        await publish_dead_letters(service.producer, settings.topics.dead_letters, letters)
        service.metrics.add_letters(letters)

    async def take_items(records: Sequence[Record]) -> None:
        await dead(await intake.items(records))

    async def take_users(records: Sequence[Record]) -> None:
        await service.ready_for_lists()
        lists, letters = await intake.users(records)
        by_partition: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for partition, key, record in lists:
            by_partition.setdefault(partition, []).append((key, record))
        await ListPublisher(service.producer, settings.topics.recommendations).publish(by_partition)
        await dead(letters)

    async def take_models(records: Sequence[Record]) -> None:
        await dead(await intake.announcements(records))

    async def take_rules(records: Sequence[Record]) -> None:
        await dead(await intake.rules(records))

    for name, topic, take in (
        ("items", settings.topics.items, take_items),
        ("users", settings.topics.users, take_users),
        ("models", settings.topics.models, take_models),
        *([("control", settings.topics.control, take_rules)] if settings.lists.rules_topic else []),
    ):
        _agent(app, service, name, topic, take)


def _agent(app: faust.App, service: EventsService, name: str, topic_name: str, take: Callable[[Sequence[Record]], Awaitable[None]]) -> None:
    topic = app.topic(topic_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True)

    rounds = Rounds(name, service.metrics, describe=lambda error: explain(error, service.settings, "stream"))

    async def agent(stream: Any) -> None:
        async for events in stream.take_events(RECORDS_AT_ONCE, within=WITHIN_S):
            await service.connected()
            messages = [event.message for event in events]
            records = [Record(m.topic, m.partition, m.offset, m.key, m.value, _timestamp_ms(m)) for m in messages]
            try:  # an agent that fails would lose its place
                await patiently(partial(take, records), rounds=rounds, place=partial(_standing_still, records))
            except Fatal as error:
                log.critical("%s: %s", topic_name, error)
                await service.crash(error)
                raise

    agent.__name__ = name
    app.agent(topic, name=f"recsys.{name}", concurrency=1)(agent)


def _standing_still(records: Sequence[Record]) -> str:
    """Return where a topic stands still while its records cannot be applied."""
    first = records[0]
    return f"not applied: {first.topic}, partition {first.partition}, from offset {first.source_offset} on"


def _timestamp_ms(message: Any) -> int:
    return -1 if message.timestamp is None else int(message.timestamp * 1000)
