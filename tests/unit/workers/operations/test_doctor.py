"""What the doctor makes of what it is told."""

from __future__ import annotations

import pytest

from workers.kafka import compression
from workers.kafka.topics import TOMBSTONE_RETENTION_MS, topic_specs
from workers.operations.doctor import TOMBSTONES_MS, event_clock, removals
from workers.operations.log_findings import examine_codecs, open_transactions, partitioner
from workers.settings import load_settings

FOREVER = str(2**63 - 1)


@pytest.mark.parametrize(
    ("configs", "states"),
    [
        ({}, []),
        ({"message.timestamp.type": "LogAppendTime", "message.timestamp.after.max.ms": FOREVER}, ["ok"]),
        ({"message.timestamp.type": "CreateTime"}, ["warning"]),
        ({"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": FOREVER}, ["warning"]),
        ({"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": "3600000"}, ["ok"]),
    ],
)
def test_a_topic_whose_producers_may_move_event_time_is_warned_of_with_a_remedy(configs: dict[str, str], states: list[str]) -> None:
    findings = list(event_clock("t.events", configs))
    assert [finding.state for finding in findings] == states
    for finding in findings:
        assert finding.state == "ok" or ("t.events" in finding.text and "message.timestamp.type=LogAppendTime" in finding.remedy)


@pytest.mark.parametrize(
    ("configs", "remedy"),
    [
        ({}, None),
        ({"cleanup.policy": "compact", "delete.retention.ms": str(TOMBSTONE_RETENTION_MS)}, None),
        ({"cleanup.policy": "compact", "delete.retention.ms": "86400000"}, f"delete.retention.ms={TOMBSTONE_RETENTION_MS}"),
        ({"cleanup.policy": "compact,delete", "delete.retention.ms": str(TOMBSTONE_RETENTION_MS)}, "cleanup.policy=compact"),
    ],
)
def test_a_topic_that_forgets_removals_is_warned_of_with_a_remedy(configs: dict[str, str], remedy: str | None) -> None:
    """C13: nothing but its tombstone says that an item was removed."""
    findings = list(removals("t.items", configs))
    assert [finding.state for finding in findings] == ["warning"] * (remedy is not None)
    assert all("t.items" in finding.text and remedy is not None and remedy in finding.remedy for finding in findings)


def test_topics_are_made_to_keep_tombstones() -> None:
    assert TOMBSTONES_MS == TOMBSTONE_RETENTION_MS
    specs = {spec.role: spec.configs for spec in topic_specs(load_settings())}
    assert all(list(removals(role, specs[role])) == [] and "delete.retention.ms" in specs[role] for role in ("items", "users", "models"))


def test_doctor_packs_and_unpacks_with_every_codec_and_names_one_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """C02."""
    (finding,) = examine_codecs(load_settings())
    assert (finding.state, finding.text) == ("ok", "gzip, snappy, lz4, zstd")
    monkeypatch.setattr(compression, "cramjam", None)
    (finding,) = examine_codecs(load_settings())
    assert finding.state == "wrong" and "zstd (not installed)" in finding.text and "pip install cramjam" in finding.remedy


def test_an_open_transaction_is_named_with_its_partition_and_what_waits() -> None:
    """C24."""
    assert list(open_transactions({("t", 0): (5, 5)})) == []
    (finding,) = open_transactions({("t", 0): (5, 5), ("t", 1): (7, 10)})
    assert finding.state == "warning" and "t partition 1: 3 records wait since offset 7" in finding.text


def test_records_of_another_partitioner_are_wrong_or_accepted_on_purpose() -> None:
    """C26."""
    assert list(partitioner(0, 0, [], accepted=False)) == []
    (finding,) = partitioner(100, 0, [], accepted=False)
    assert finding.state == "ok"
    (finding,) = partitioner(100, 75, ["t"], accepted=False)
    assert finding.state == "wrong" and "75 of 100" in finding.text and "partitioner=murmur2_random" in finding.remedy
    (finding,) = partitioner(100, 75, ["t"], accepted=True)
    assert finding.state == "warning" and "topics.wrong_partition" in finding.remedy
