"""What the doctor makes of what it is told."""

from __future__ import annotations

import pytest

from workers.doctor import event_clock

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
