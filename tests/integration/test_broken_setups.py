"""`recsys doctor` finds each of these broken set-ups and names the remedy."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from kafka import KafkaProducer

from tests.conftest import TestStack
from workers.bootstrap import local_redis, open_store
from workers.kafka import compression
from workers.kafka.groups import Group
from workers.kafka.offsets import commit_offsets
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import provision, topic_ids
from workers.local.embedded import HOST, free_port
from workers.operations import doctor, fitness
from workers.redis.keys import Keys
from workers.settings import Settings, load_settings
from workers.state.layout import layout_of

pytestmark = pytest.mark.slow


@dataclass
class Setup:
    """A sound installation that a case breaks: its settings by section, its Redis, and what a test may replace."""

    sections: dict[str, Any]
    redis: redis.Redis
    patch: pytest.MonkeyPatch
    folder: Path
    undo: list[Callable[[], object]] = field(default_factory=list)

    def settings(self) -> Settings:
        return load_settings(**self.sections)

    def change(self, section: str, **values: Any) -> None:
        self.sections[section] = self.sections.get(section, {}) | values

    def with_state(self, topic_id: str | None = None, last_applied_offset: int = -1) -> Keys:
        """Lay the state out, perhaps with a watermark of partition 0."""
        settings = self.settings()

        async def lay_out() -> None:
            store = open_store(settings)
            await store.open(layout_of(settings))
            await store.close()

        asyncio.run(lay_out())
        keys = Keys(settings.redis.namespace)
        if topic_id is not None:
            self.redis.set(keys.partition_watermark(0), f"{topic_id}:{last_applied_offset}")
        return keys

    def with_config(self, **configs: Any) -> None:
        """Set parameters of Redis until the test has ended."""
        for name, value in configs.items():
            parameter = name.replace("_", "-")
            before = self.redis.config_get(parameter)[parameter]
            self.undo.append(lambda parameter=parameter, before=before: self.redis.config_set(parameter, before))
            self.redis.config_set(parameter, value)

    def with_user(self, password: str, *rules: str) -> None:
        """Make a user of Redis, and name it in the settings with this password."""
        name = self.sections["redis"]["namespace"]
        self.redis.execute_command("ACL", "SETUSER", name, "on", ">right", "~*", *rules)
        self.undo.append(lambda: self.redis.execute_command("ACL", "DELUSER", name))
        self.change("redis", username=name, password=password)

    def with_topic_config(self, role: str, **configs: str) -> None:
        """Let the broker report other settings of one topic: the embedded one has none."""
        topic = getattr(self.settings().topics, role)
        told = {name.replace("_", "."): value for name, value in configs.items()}
        self.patch.setattr("workers.kafka.topics.topic_configs", lambda settings, name: told if name == topic else {})


@pytest.fixture
def setup(sections: dict[str, Any], stack: TestStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Setup]:
    if stack.cluster is not None:
        pytest.skip("the cases change one Redis")
    with local_redis(stack.redis_url) as client:
        made = Setup(sections, client, monkeypatch, tmp_path)
        provision(made.settings())
        yield made
        for undo in reversed(made.undo):
            undo()


def no_broker(setup: Setup) -> None:
    setup.change("kafka", bootstrap_servers=f"{HOST}:{free_port()}")


def no_kafka_at_that_port(setup: Setup) -> None:
    other = socket.create_server((HOST, 0))
    setup.undo.append(other.close)
    setup.change("kafka", bootstrap_servers=f"{HOST}:{other.getsockname()[1]}")


def broker_without_address(setup: Setup) -> None:
    setup.change("kafka", bootstrap_servers="broker.invalid:9092")


def no_redis(setup: Setup) -> None:
    setup.change("redis", url=f"redis://{HOST}:{free_port()}/0")


def tls_to_a_plain_redis(setup: Setup) -> None:
    setup.change("redis", url=setup.sections["redis"]["url"].replace("redis://", "rediss://"))


def wrong_redis_password(setup: Setup) -> None:
    setup.with_user("wrong", "+@all")


def lacking_redis_right(setup: Setup) -> None:
    setup.with_user("right", "+@all", "-info")


def no_right_to_ask_for_the_time(setup: Setup) -> None:
    setup.with_user("right", "+@all", "-time")


def eviction(setup: Setup) -> None:
    setup.with_config(maxmemory="4gb", maxmemory_policy="allkeys-lru")


def nearly_full_redis(setup: Setup) -> None:
    used = int(setup.redis.info("memory")["used_memory"])
    setup.with_config(maxmemory=int(used / 0.93))


def replica(setup: Setup) -> None:
    setup.with_state()
    setup.undo.append(lambda: setup.redis.execute_command("REPLICAOF", "NO", "ONE"))
    setup.redis.execute_command("REPLICAOF", HOST, str(free_port()))


def missing_topics(setup: Setup) -> None:
    setup.change("topics", items=f"{setup.sections['topics']['items']}.other")


def other_partition_count(setup: Setup) -> None:
    setup.change("topics", partitions=3)


def too_many_replicas(setup: Setup) -> None:
    setup.change("topics", replication_factor=3)


def short_retention(setup: Setup) -> None:
    setup.with_topic_config("events", retention_ms="604800000", message_timestamp_type="LogAppendTime")


def compacted_events(setup: Setup) -> None:
    setup.with_topic_config("events", cleanup_policy="compact")


def lists_that_age(setup: Setup) -> None:
    setup.with_topic_config("recommendations", cleanup_policy="delete")


def removals_that_are_forgotten(setup: Setup) -> None:
    setup.with_topic_config("items", cleanup_policy="compact", delete_retention_ms="86400000")


def producers_clocks(setup: Setup) -> None:
    setup.with_topic_config("events", message_timestamp_type="CreateTime")


def small_messages(setup: Setup) -> None:
    setup.with_topic_config("items", max_message_bytes="100000")


def clock_skew(setup: Setup) -> None:
    setup.patch.setattr(fitness, "now_s", lambda: time.time() + 120)


def older_layout(setup: Setup) -> None:
    keys = setup.with_state()
    stored = json.loads(setup.redis.get(keys.layout))
    setup.redis.set(keys.layout, json.dumps(stored | {"layout_version": 1}))


def state_of_other_settings(setup: Setup) -> None:
    setup.with_state()
    setup.change("state", item_groups=8)


def namespace_of_another_program(setup: Setup) -> None:
    setup.redis.set(Keys(setup.settings().redis.namespace).layout, "hello")


def topic_made_again(setup: Setup) -> None:
    setup.with_state("0" * 31 + "1", 0)


def log_that_lost_records(setup: Setup) -> None:
    settings = setup.settings()
    setup.with_state(topic_ids(settings)[settings.topics.events], 41)


def lost_state(setup: Setup) -> None:
    settings = setup.settings()
    commit_offsets(settings, settings.stream.group_id, settings.topics.events, {0: 500})


def foreign_group(setup: Setup) -> None:
    setup.patch.setattr("workers.kafka.groups.describe_group", lambda settings, group_id: Group(1, "range"))


def too_many_workers(setup: Setup) -> None:
    setup.patch.setattr("workers.kafka.groups.describe_group", lambda settings, group_id: Group(6, "roundrobin"))


def other_partitioner(setup: Setup) -> None:
    settings = setup.settings()
    wrong = (partition_for(b"u1", settings.topics.partitions) + 1) % settings.topics.partitions
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, enable_idempotence=False)
    producer.send(settings.topics.events, b"{}", b"u1", partition=wrong).get(20)
    producer.close()


def no_codec(setup: Setup) -> None:
    setup.patch.setattr(compression, "cramjam", None)


def model_store_that_cannot_be_written(setup: Setup) -> None:
    (setup.folder / "file").write_text("")
    setup.change("trainer", model_url=str(setup.folder / "file" / "models"))


def unknown_store(setup: Setup) -> None:
    setup.change("trainer", log_url="ftpx://host/log")


def full_disk(setup: Setup) -> None:
    setup.patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=12_000_000))


def taken_port(setup: Setup) -> None:
    taken = socket.socket()
    setup.undo.append(taken.close)
    taken.bind((HOST, 0))
    taken.listen()
    setup.change("metrics", port=taken.getsockname()[1])


def unknown_model(setup: Setup) -> None:
    setup.change("trainer", kinds=["ials", "oracle"])


CASES: list[tuple[Callable[[Setup], None], str, str, str]] = [
    (no_broker, "kafka", "wrong", "start one or set kafka.bootstrap_servers"),
    (no_kafka_at_that_port, "kafka", "wrong", "check that it is a Kafka broker"),
    (broker_without_address, "kafka", "wrong", "correct kafka.bootstrap_servers or the DNS"),
    (no_redis, "redis", "wrong", "check that it runs"),
    (tls_to_a_plain_redis, "redis", "wrong", "write redis://"),
    (wrong_redis_password, "redis", "wrong", "redis.password"),
    (lacking_redis_right, "redis", "wrong", "grant it (docs/security.md)"),
    (eviction, "redis memory", "wrong", "set it to noeviction"),
    (nearly_full_redis, "redis memory", "warning", "raise maxmemory"),
    (replica, "redis role", "wrong", "name the primary in redis.url"),
    (missing_topics, "topic items", "wrong", "recsys topics create"),
    (other_partition_count, "topic events", "wrong", "set topics.partitions = 4"),
    (too_many_replicas, "replication", "wrong", "lower it or add brokers"),
    (short_retention, "retention", "warning", "set retention.ms=31536000000"),
    (compacted_events, "retention", "wrong", "set cleanup.policy=delete"),
    (lists_that_age, "retention", "warning", "set cleanup.policy=compact"),
    (removals_that_are_forgotten, "removals", "warning", "set delete.retention.ms="),
    (producers_clocks, "event clock", "warning", "message.timestamp.type=LogAppendTime"),
    (small_messages, "message size", "warning", "set max.message.bytes=1048588"),
    (clock_skew, "clock", "wrong", "NTP"),
    (older_layout, "redis", "wrong", "recsys state rebuild"),
    (state_of_other_settings, "redis", "wrong", "set state.item_groups back"),
    (namespace_of_another_program, "redis", "wrong", "choose another redis.namespace"),
    (topic_made_again, "watermarks", "wrong", "the topic that the state belongs to"),
    (log_that_lost_records, "watermarks", "wrong", "restore the log"),
    (lost_state, "state", "wrong", "correct redis.url and redis.namespace"),
    (foreign_group, "workers", "wrong", "stream.group_id"),
    (too_many_workers, "workers", "warning", "stop those that are too many"),
    (other_partitioner, "partitioner", "wrong", "partitioner=murmur2_random"),
    (no_codec, "codecs", "wrong", "pip install cramjam"),
    (model_store_that_cannot_be_written, "model store", "warning", "change its owner"),
    (unknown_store, "event log", "wrong", "s3://"),
    (full_disk, "model store disk", "wrong", "free the disk"),
    (taken_port, "metrics port", "wrong", "set metrics.port to another one"),
    (unknown_model, "training", "wrong", "trainer.kinds"),
]


@pytest.mark.parametrize(("make", "name", "state", "remedy"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_doctor_finds_a_broken_setup_and_names_the_remedy(
    make: Callable[[Setup], None], name: str, state: str, remedy: str, setup: Setup
) -> None:
    make(setup)
    found = [finding for finding in doctor.examine(setup.settings()) if finding.state != "ok"]
    named = [finding for finding in found if finding.name == name]
    assert [finding.state for finding in named] == [state], found
    assert remedy in f"{named[0].text}: {named[0].remedy}" and named[0].remedy, named


def test_the_documented_rights_are_enough(setup: Setup) -> None:
    no_right_to_ask_for_the_time(setup)
    assert not [finding for finding in doctor.examine(setup.settings()) if finding.name in ("redis", "clock") and finding.state != "ok"]


def test_doctor_finds_nothing_wrong_before_it_is_broken(setup: Setup) -> None:
    setup.with_state()
    found = [finding for finding in doctor.examine(setup.settings()) if finding.state != "ok"]
    assert {finding.name for finding in found} <= {"workers", "event clock"}, "no worker runs; the embedded broker has no such setting"
