"""What the producer helper reports as delivered is in the topic, under the right key; what it could not deliver it hands back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from schemas import Poison, decode_event
from tests.kafka_home import HOST
from workers.client import EventPublisher
from workers.errors import Transient, WorkerError
from workers.kafka.connection import kafka_python_arguments
from workers.kafka.offsets import end_offsets
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import provision
from workers.local.embedded import free_port
from workers.settings import Settings, load_settings


def everything(settings: Settings, topic: str) -> list[Any]:
    ends = end_offsets(settings, [topic])
    consumer = KafkaConsumer(**kafka_python_arguments(settings), group_id=None, enable_auto_commit=False)
    try:
        consumer.assign([TopicPartition(topic, partition) for _, partition in ends])
        consumer.seek_to_beginning()
        records: list[Any] = []
        while len(records) < sum(ends.values()):
            for batch in consumer.poll(timeout_ms=500).values():
                records += batch
        return records
    finally:
        consumer.close()


def test_published_events_arrive_valid_in_order_and_in_the_user_s_partition(settings: Settings) -> None:
    with EventPublisher(settings) as publisher:
        sent = [publisher.publish(user_id=f"u{i % 7}", item_id=f"i{i}", type="view") for i in range(500)]
        assert publisher.publish_many([{"user_id": "ü", "item_id": "x", "type": "rating", "value": 4.0}]) == 1
    assert len({event.event_id for event in sent}) == 500
    records = everything(settings, settings.topics.events)
    assert len(records) == 501
    assert all(r.partition == partition_for(r.key, 4) for r in records)
    decoded = [decode_event(r.value, r.key, record_ts_ms=r.timestamp, future_skew_ms=60_000) for r in records]
    for user in {event.user_id for event in sent}:
        assert [e for e in decoded if e.user_id == user] == [e for e in sent if e.user_id == user]


@pytest.mark.parametrize(
    "fields", [{"type": "viewed"}, {"item_id": ""}, {"value": float("nan")}, {"colour": "red"}, {"event_ts_ms": "now"}]
)
def test_a_wrong_event_is_refused_by_field_and_nothing_is_sent(settings: Settings, fields: dict[str, Any]) -> None:
    with EventPublisher(settings) as publisher:
        with pytest.raises(Poison) as refused:
            publisher.publish({"user_id": "u", "item_id": "i", "type": "view", **fields})
        assert next(iter(fields)) in str(refused.value) or refused.value.kind == "unknown_field"
    assert sum(end_offsets(settings, [settings.topics.events]).values()) == 0


def test_items_and_their_removal_go_to_the_items_topic(settings: Settings) -> None:
    with EventPublisher(settings) as publisher:
        publisher.publish_item({"item_id": "i", "title": "T"})
        publisher.remove_item("i")
    assert [(r.key, r.value is None) for r in everything(settings, settings.topics.items)] == [(b"i", False), (b"i", True)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_publisher_that_was_forked_delivers_from_every_process_and_nothing_twice(settings: Settings, worker_env: dict[str, str]) -> None:
    """C12: made before `os.fork()`, as gunicorn with preload and celery do."""
    run = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=180, env=worker_env)
    assert (run.returncode, run.stderr) == (0, "")
    records = everything(settings, settings.topics.events)
    arrived = Counter(decode_event(r.value, r.key, record_ts_ms=-1, future_skew_ms=0).item_id for r in records)
    assert set(arrived.values()) == {1}
    assert sorted(arrived) == sorted([*run.stdout.split(), *(f"buffered-{n}" for n in range(2_000)), "late"])
    assert len(run.stdout.split()) == 10


FORKS = """
import multiprocessing, os, sys, threading
from workers.client import EventPublisher

publisher, unclosed = EventPublisher(), EventPublisher()

def publish(item_id, using=publisher):
    using.publish(user_id="u", item_id=item_id, type="play")
    os.write(1, f"{item_id}\\n".encode())

def in_child(step):
    pid = os.fork()
    if pid == 0:
        try:
            step()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return pid

def with_threads():
    threads = [threading.Thread(target=publish, args=(f"thread-{n}",)) for n in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert publisher.n_sent == 3
    publisher.flush()

def closes():
    publish("closes")
    publisher.close()
    publisher.close()
    try:
        publish("never")
    except RuntimeError:
        pass

def grandchild():
    publish("child")
    assert os.waitpid(in_child(lambda: (publish("grandchild"), publisher.flush())), 0)[1] == 0
    publisher.flush()

def missed_by_the_hook():  # a fork in C calls no hooks: the process id tells
    publisher._pid, publisher._producer = os.getppid(), None
    publish("no-hook")
    publisher.flush()

def process():  # ends by os._exit, so without exit handlers
    publish("multiprocessing")

with publisher:
    for n in range(2_000):
        publisher.publish(user_id="u", item_id=f"buffered-{n}", type="play")
    pids = [in_child(step) for step in (with_threads, closes, grandchild, missed_by_the_hook, publisher.flush, publisher.close)]
    pid = os.fork()
    if pid == 0:
        publish("leaves-the-block")
        sys.exit(0)
    pids.append(pid)
    pid = os.fork()
    if pid == 0:
        sys.exit(0)  # without a record of its own
    pids.append(pid)
    pid = os.fork()
    if pid == 0:
        publish("ends-without-closing", unclosed)
        sys.exit(0)
    pids.append(pid)
    worker = multiprocessing.get_context("fork").Process(target=process)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)
    publisher.publish(user_id="u", item_id="late", type="play")
unclosed.close()
"""


DEAD_BROKER = """
import os, sys
from workers.client import EventPublisher, PublishError
from workers.local.embedded import EmbeddedStack
from workers.kafka.topics import provision

with EmbeddedStack() as stack:
    if (pid := os.fork()) == 0:
        sys.exit(0)  # leaves the block, but the servers and their folder are the parent's
    os.waitpid(pid, 0)
    assert stack.folder.exists()
    settings = stack.settings()
    provision(settings)
    publisher = EventPublisher(settings, delivery_timeout_s=1.5)
    publisher.publish(user_id="u", item_id="delivered", type="view")
    publisher.flush()
    stack.broker.kill()
    lost = [publisher.publish(user_id="u", item_id=f"i{n}", type="view") for n in range(3)]
    try:
        publisher.close()
    except PublishError as late:
        print(late.undelivered == lost)
"""


def test_what_a_dead_broker_never_acknowledged_is_handed_back() -> None:
    # in a process of its own: kafka-python 3.0 forgets to close the sockets of refused connections, and warnings are errors here
    run = subprocess.run([sys.executable, "-c", DEAD_BROKER], capture_output=True, text=True, timeout=180, check=True)
    assert run.stdout.split() == ["True"]


def test_no_broker_at_all_is_one_line_that_names_the_remedy(sections: dict[str, Any]) -> None:
    sections["kafka"] |= {"bootstrap_servers": f"{HOST}:{free_port()}", "request_timeout_ms": 1_000}
    settings = load_settings(**sections)
    for call in (lambda: EventPublisher(settings), lambda: provision(settings)):
        with pytest.raises(Transient, match=r"kafka\.bootstrap_servers") as away:
            call()
        assert isinstance(away.value, WorkerError) and "\n" not in str(away.value)
