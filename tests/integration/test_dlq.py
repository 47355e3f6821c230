"""Dead letters on a real broker: found, looked at, sent again exactly where that is right; and a flood of them costs no good event."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from kafka.admin import KafkaAdminClient

from schemas import DeadLetter, Poison, make_dead_letter
from schemas.decoding import decode_dead_letter
from tests.builders import play, value_of
from tests.fold import Fact
from tests.integration.test_cli import recsys
from tests.integration.test_embedded_publisher import everything
from tests.integration.test_stream import DEADLINE_S, short_stream, state_and_fold, topics_of, workers
from workers.kafka.batch_publisher import publish_dead_letters
from workers.kafka.connection import aiokafka_producer_arguments, kafka_python_arguments
from workers.kafka.offsets import end_offsets, group_lag
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import provision
from workers.operations.dead_letters import Choice, SourcePlace, count_letters, newest_letters
from workers.operations.redrive import REDRIVEN_FROM, Outcome, Verdict
from workers.operations.redrive import redrive as redrive_letters
from workers.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

NOW_MS = int(time.time() * 1000)
SECRET = "u-secret"


class Refusals:
    """Records in their topics and letters about them, as a worker of other settings or another version would have left them."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self.settings, self.producer = settings, producer

    async def record(self, topic: str, key: bytes | None, value: bytes | None) -> SourcePlace:
        n = 1 if topic == self.settings.topics.models else self.settings.topics.partitions
        sent = await self.producer.send_and_wait(topic, value, key=key, partition=partition_for(key or b"", n))
        return SourcePlace(topic, sent.partition, sent.offset)

    async def letter(
        self, place: SourcePlace, key: bytes | None, value: bytes | None, *, kind: str = "invalid_field", age_min: float = 0
    ) -> DeadLetter:
        made = make_dead_letter(
            Poison("item_id", "item_id: an old rule", kind),
            source_topic=place.topic,
            source_partition=place.partition,
            source_offset=place.source_offset,
            source_timestamp_ms=NOW_MS,
            key=key,
            value=value,
            dead_letter_ts_ms=NOW_MS - int(age_min * 60_000),
        )
        await publish_dead_letters(self.producer, self.settings.topics.dead_letters, [made])
        return made

    async def refused(self, topic: str, key: bytes | None, value: bytes | None, **fields: Any) -> SourcePlace:
        place = await self.record(topic, key, value)
        await self.letter(place, key, value, **fields)
        return place


async def refusals(settings: Settings) -> Refusals:
    producer = AIOKafkaProducer(**aiokafka_producer_arguments(settings))
    await producer.start()
    return Refusals(settings, producer)


def redrive(env: dict[str, str], *arguments: str) -> tuple[int, dict[str, list[str]]]:
    """Exit code, and place ▸ outcomes."""
    run = recsys(env, "dlq", "redrive", *arguments, "--json")
    report = json.loads(run.stdout)
    found: dict[str, list[str]] = {}
    for letter in report["letters"]:
        found.setdefault(letter["place"], []).append(letter["outcome"])
    assert sum(report["counts"].values()) == len(report["letters"])
    return run.returncode, found


async def test_list_and_show_find_letters_by_every_filter_and_quote_no_record(settings: Settings, worker_env: dict[str, str]) -> None:
    topics = settings.topics
    made = await refusals(settings)
    try:
        key, good = SECRET.encode(), value_of(play(SECRET, "i-secret", 1))
        changed = await made.record(topics.events, key, good)
        await made.letter(changed, key, b"another", age_min=110)
        gone = SourcePlace(topics.events, 0, 10_000)
        await made.letter(gone, key, good, age_min=100)
        old = await made.refused(topics.events, key, good, kind="too_large", age_min=90)
        item = await made.refused(topics.items, b"i-secret", b"{", kind="not_json", age_min=1)
        await made.letter(item, b"i-secret", b"{", kind="not_json", age_min=0.5)  # a replay
        new = await made.refused(topics.events, key, b'{"user_id": "u-secret"', kind="not_json")
        await made.producer.send_and_wait(topics.dead_letters, b"no letter", key=b"x")
    finally:
        await made.producer.stop()

    listed = recsys(worker_env, "dlq", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert [letter["place"] for letter in json.loads(listed.stdout)] == [str(p) for p in (new, item, item, old, gone, changed)]
    table = recsys(worker_env, "dlq", "list")
    assert str(old) in table.stdout.replace("\n", "") and "item_id: an old rule" in table.stdout
    assert "secret" not in listed.stdout + table.stdout
    assert [SourcePlace.of(x) for x in newest_letters(settings, Choice(), 2)] == [new, item]
    filtered = recsys(worker_env, "dlq", "list", "--kind", "not_json", "--topic", "events", "--since", "60", "--json")
    assert [letter["place"] for letter in json.loads(filtered.stdout)] == [str(new)]
    assert count_letters(settings, Choice(kind="not_json")) == {("not_json", topics.events): 1, ("not_json", topics.items): 1}
    counted = json.loads(recsys(worker_env, "dlq", "list", "--count", "--json").stdout)
    assert {(row["kind"], row["source_topic"]): row["letters"] for row in counted}[("too_large", topics.events)] == 1

    shown = {str(p): json.loads(recsys(worker_env, "dlq", "show", str(p), "--json").stdout) for p in (old, gone, changed)}
    assert [shown[str(p)]["source_record"] for p in (old, gone, changed)] == ["present", "gone", "changed"]
    assert shown[str(old)]["payload_sha256"] == hashlib.sha256(good).hexdigest() and "payload_base64" not in shown[str(old)]
    text = recsys(worker_env, "dlq", "show", str(old))
    assert text.returncode == 0 and "present" in text.stdout and "secret" not in text.stdout
    assert recsys(worker_env, "dlq", "show", str(old), "--payload").stdout.encode() == good
    for place, word in ((gone, "is gone"), (SourcePlace(topics.events, 0, 10_001), "no dead letter")):
        failed = recsys(worker_env, "dlq", "show", str(place), "--payload")
        assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (1, "", 1) and word in failed.stderr


async def test_only_the_letter_s_own_record_that_is_accepted_now_is_sent_again(settings: Settings, worker_env: dict[str, str]) -> None:
    topics = settings.topics
    made = await refusals(settings)
    try:
        good = [value_of(play("u1", f"i{n}", n)) for n in range(3)]
        first = await made.refused(topics.events, b"u1", good[0])
        await made.letter(first, b"u1", good[0])  # a replay
        bad = await made.refused(topics.events, b"u1", b"{")
        second = await made.refused(topics.events, b"u1", good[1])
        changed = await made.record(topics.events, b"u1", good[2])
        await made.letter(changed, b"u1", b"what lay there before")
        gone, elsewhere = SourcePlace(topics.events, 1, 10_000), SourcePlace("of.somebody.else", 0, 0)
        await made.letter(gone, b"u1", good[2])
        await made.letter(elsewhere, b"u1", good[2])
        outdated = await made.refused(topics.items, b"i1", b'{"item_id": "i1", "title": "old"}')
        await made.record(topics.items, b"i1", b'{"item_id": "i1", "title": "new"}')
        removed = await made.refused(topics.users, b"u9", b'{"user_id": "u9"}')
        await made.record(topics.users, b"u9", None)
        profile = await made.refused(topics.users, b"u1", b'{"user_id": "u1"}')
        await made.record(topics.users, b"u1", b"{")  # newer, but refused: it replaces nothing
    finally:
        await made.producer.stop()
    before = {topic: sum(end_offsets(settings, [topic]).values()) for topic in (topics.events, topics.items, topics.users)}

    expected = {
        str(first): ["redriven", "already_redriven"], str(bad): ["still_refused"], str(second): ["redriven"], str(changed): ["changed"],
        str(gone): ["gone"], str(elsewhere): ["still_refused"], str(outdated): ["superseded"], str(removed): ["superseded"],
        str(profile): ["redriven"],
    }  # fmt: skip
    dry = {place: [outcome.replace("redriven", "redrivable") if outcome == "redriven" else outcome for outcome in outcomes]
           for place, outcomes in expected.items()}  # fmt: skip
    assert redrive(worker_env, "--all", "--dry-run") == (1, dry)
    assert {topic: sum(end_offsets(settings, [topic]).values()) for topic in before} == before

    assert redrive(worker_env, "--all") == (1, expected)
    sent = [r for topic in before for r in everything(settings, topic) if any(name == REDRIVEN_FROM for name, _ in r.headers)]
    assert [(dict(r.headers)[REDRIVEN_FROM].decode(), r.topic, r.partition, r.key, r.value) for r in sent] == [
        (str(first), topics.events, first.partition, b"u1", good[0]),
        (str(second), topics.events, second.partition, b"u1", good[1]),
        (str(profile), topics.users, profile.partition, b"u1", b'{"user_id": "u1"}'),
    ]
    # the redriven profile is on its topic: another run leaves it there
    assert redrive(worker_env, str(profile)) == (0, {str(profile): ["already_redriven"]})
    unknown = SourcePlace(topics.events, 0, 77)
    assert redrive(worker_env, str(unknown), str(gone)) == (1, {str(unknown): ["no_letter"], str(gone): ["gone"]})
    text = recsys(worker_env, "dlq", "redrive", "--kind", "invalid_field", "--topic", "events", "--dry-run")
    assert text.returncode == 1 and f"{bad}: still_refused: record: " in text.stderr and "2 redrivable" in text.stdout


async def test_a_redriven_event_counts_once_however_often_it_is_redriven(
    stack: Any, settings: Settings, worker_env: dict[str, str]
) -> None:
    facts = short_stream(20)
    long = Fact("u1", "a-very-long-item-" + "x" * 100, "long", "play", None, facts[-1].event_ts_ms)
    strict = {**worker_env, "RECSYS_STREAM__MAX_RECORD_BYTES": str(len(value_of(long)) - 1)}
    partition = partition_for(b"u1", settings.topics.partitions)
    async with topics_of(settings) as topics:
        for fact in facts:
            await topics.event(fact)
        place = SourcePlace(settings.topics.events, partition, await topics.record(b"u1", value_of(long)))
        with workers(stack, strict):
            await topics.until(lambda: len(topics.dead) == 1, "the dead letter")
            await state_and_fold(settings, topics.log)
        assert topics.dead[0]["kind"] == "too_large"
        for _ in range(2):
            letters = await asyncio.to_thread(newest_letters, settings, Choice(), 1)
            assert await asyncio.to_thread(redrive_letters, settings, letters) == [Verdict(place, Outcome.REDRIVEN)]
            topics.log[partition].append(long)
        with workers(stack, worker_env):
            made = await topics.until_answered("u1", len(topics.log[partition]) - 2)
            found, expected = await state_and_fold(settings, topics.log)
    assert made.trigger.event_id in {"long", None}  # none where the list waited for the catalogue
    assert found == expected


POISONS = (
    b"{",
    b"\xff\xfe",
    b'{"event_id": 1}',
    b'{"event_id":"a","user_id":"somebody","item_id":"i","type":"play","event_ts_ms":1700000000000}',
)


async def flood(settings: Settings, log: dict[int, list[Fact | None]], facts: Sequence[Fact | None]) -> dict[str, bytes]:
    """Publish events and, for None, poison of several kinds under several keys; place ▸ value of the poison."""
    producer = AIOKafkaProducer(**aiokafka_producer_arguments(settings), linger_ms=5)
    await producer.start()
    try:
        sending = []
        for n, fact in enumerate(facts):
            key, value = (f"u{n % 7}".encode(), POISONS[n % len(POISONS)]) if fact is None else (fact.user_id.encode(), value_of(fact))
            partition = partition_for(key, settings.topics.partitions)
            log[partition].append(fact)
            sending.append((fact, value, await producer.send(settings.topics.events, value, key=key, partition=partition)))
        poison: dict[str, bytes] = {}
        for fact, value, sent in sending:
            at = await sent
            assert log[at.partition][at.offset] is fact
            if fact is None:
                poison[str(SourcePlace(at.topic, at.partition, at.offset))] = value
        return poison
    finally:
        await producer.stop()


async def test_a_flood_of_poison_costs_no_good_event_and_every_poison_has_its_letter(
    stack: Any, settings: Settings, worker_env: dict[str, str]
) -> None:
    dead_letters = f"{settings.topics.dead_letters}.wide"
    admin = KafkaAdminClient(**kafka_python_arguments(settings))
    try:
        admin.create_topics({dead_letters: {"num_partitions": 3, "replication_factor": 1}})
    finally:
        admin.close()
    settings = settings.model_copy(update={"topics": settings.topics.model_copy(update={"dead_letters": dead_letters})})
    provision(settings)
    env = {**worker_env, "RECSYS_TOPICS__DEAD_LETTERS": dead_letters}
    log: dict[int, list[Fact | None]] = {partition: [] for partition in range(settings.topics.partitions)}
    mixed: list[Fact | None] = [None if n % 10 == 3 else fact for n, fact in enumerate(short_stream(2_000))]
    with workers(stack, env):
        poison = await flood(settings, log, mixed)
        poison |= await flood(settings, log, [None] * 1_000)
        assert len(poison) == 1_200
        found, expected = await state_and_fold(settings, log)
        deadline = time.monotonic() + DEADLINE_S
        while any((await asyncio.to_thread(group_lag, settings, settings.stream.group_id, settings.topics.events)).values()):
            assert time.monotonic() < deadline, "lag did not go to 0"
    assert found == expected
    records = everything(settings, dead_letters)
    assert all(record.partition == partition_for(record.key, 3) for record in records)
    letters = [decode_dead_letter(record.value, record.key) for record in records]
    # a replay (the group moved on) may repeat a letter, with its own time
    assert {str(SourcePlace.of(letter)): letter.payload_sha256 for letter in letters} == {
        place: hashlib.sha256(value).hexdigest() for place, value in poison.items()
    }
    assert sum(count_letters(settings, Choice()).values()) == len(poison)
