"""What the doctor makes of what it is told."""

from __future__ import annotations

import pytest

from workers.doctor import TOMBSTONES_MS, event_clock, removals
from workers.settings import load_settings
from workers.topics import TOMBSTONE_RETENTION_MS, topic_specs

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
