"""The embedded stack is there when asked for, is what the workers need, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.conftest import TestStack
from workers.errors import Fatal
from workers.kafka.connection import aiokafka_arguments, aiokafka_consumer_arguments, aiokafka_producer_arguments
from workers.kafka.offsets import end_offsets, group_lag, start_offsets
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import describe, provision, topic_ids
from workers.local.embedded import EmbeddedStack, environment
from workers.settings import Settings, load_settings


def _gone(pid: int, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_topics_are_created_once_and_then_left_alone(settings: Settings) -> None:
    before = topic_ids(settings)
    assert len(before) == 6
    states = provision(settings)
    assert {state.spec.name: state.topic_id for state in states} == before
    assert {s.spec.role: s.partitions for s in states} == {
        "events": 4, "items": 4, "users": 4, "recommendations": 4, "models": 1, "dead_letters": 1,
    }  # fmt: skip


def test_an_existing_topic_with_other_partitions_is_refused_by_name(sections: dict, settings: Settings) -> None:
    sections["topics"]["partitions"] = 3
    with pytest.raises(Fatal, match=rf"{settings.topics.events}.*has 4 partitions, topics.partitions is 3"):
        provision(load_settings(**sections))


def test_missing_topics_are_told_apart_from_present_ones(sections: dict) -> None:
    assert all(state.partitions is None and state.problem for state in describe(load_settings(**sections)))


async def test_what_is_produced_is_consumed_from_the_key_s_partition_and_committed(settings: Settings) -> None:
    topic = settings.topics.events
    keys = [f"user{i}".encode() for i in range(200)]
    producer = AIOKafkaProducer(**aiokafka_producer_arguments(settings))
    await producer.start()
    try:
        for key in keys:
            await producer.send(topic, b"v", key=key)
        await producer.flush()
    finally:
        await producer.stop()
    ends = end_offsets(settings, [topic])
    assert sum(ends.values()) == len(keys) and set(start_offsets(settings, [topic]).values()) == {0}

    consumer = AIOKafkaConsumer(
        topic, group_id="g", auto_offset_reset="earliest", enable_auto_commit=False, **aiokafka_consumer_arguments(settings)
    )
    await consumer.start()
    try:
        seen: dict[bytes, int] = {}
        deadline = time.monotonic() + 30
        while len(seen) < len(keys) and time.monotonic() < deadline:
            for at, records in (await consumer.getmany(timeout_ms=200)).items():
                seen |= {record.key: at.partition for record in records}
        assert seen == {key: partition_for(key, 4) for key in keys}
        await consumer.commit()
    finally:
        await consumer.stop()
    assert group_lag(settings, "g", topic) == dict.fromkeys(range(4), 0)


async def test_the_end_of_a_topic_is_right_whatever_the_batches(settings: Settings) -> None:
    topic = settings.topics.events
    assert end_offsets(settings, [topic]) == {(topic, p): 0 for p in range(4)}
    producer = AIOKafkaProducer(**aiokafka_producer_arguments(settings))
    await producer.start()
    try:
        written = [0, 0, 0, 0]
        for partition, n in ((0, 1), (1, 7), (2, 300), (1, 1), (2, 2)):
            batch = producer.create_batch()
            for _ in range(n):
                assert batch.append(key=b"k", value=b"v", timestamp=None)
            batch.close()
            await (await producer.send_batch(batch, topic, partition=partition))
            written[partition] += n
            assert end_offsets(settings, [topic]) == {(topic, p): written[p] for p in range(4)}
    finally:
        await producer.stop()


def test_only_the_loopback_interface_is_listened_on(stack: TestStack) -> None:
    ports = {int(address.rsplit(":", 1)[1].split("/")[0]) for address in (stack.embedded.bootstrap_servers, stack.redis_url)}
    listening = [found.laddr for found in psutil.net_connections("inet") if found.status == psutil.CONN_LISTEN]
    addresses = [address.ip for address in listening if address.port in ports]
    assert len(addresses) == 2 and set(addresses) == {"127.0.0.1"}


def test_the_environment_of_a_child_gives_the_settings_of_its_parent(
    sections: dict, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(sections).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_a_stop_ends_every_child_and_frees_its_ports(tmp_path: Path) -> None:
    with EmbeddedStack(tmp_path) as stack:
        assert stack.broker is not None and stack.valkey is not None
        pids = [stack.broker.process.pid, stack.valkey.process.pid]
        port = int(stack.bootstrap_servers.rsplit(":", 1)[1])
        with redis.Redis.from_url(stack.redis_url) as client:
            assert client.ping()
        assert stack.dead() == []
        stack.valkey.kill()
        assert [child.name for child in stack.dead()] == ["valkey"]
    assert all(_gone(pid) for pid in pids)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom workers.local.embedded import EmbeddedStack\n"
        "s = EmbeddedStack(sys.argv[1]).start()\nprint(s.broker.process.pid, s.valkey.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        os.kill(parent.pid, signal.SIGKILL)
    assert len(pids) == 2 and all(_gone(pid) for pid in pids)


async def test_connection_arguments_are_accepted_by_the_clients(settings: Settings) -> None:
    consumer = AIOKafkaConsumer(**aiokafka_arguments(settings))
    await consumer.start()
    try:
        assert settings.topics.events in await consumer.topics()
    finally:
        await consumer.stop()
