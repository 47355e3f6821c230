"""Judgements of `recsys doctor` on figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from workers.operations import fitness
from workers.state.server_identity import ServerIdentity

GB = 1_000_000_000
PRIMARY = ServerIdentity("r", "p", "master", "redis", "7.4.0", GB, 4 * GB, "noeviction", ())


def states(findings: object) -> list[tuple[str, str]]:
    return [(found.name, found.state) for found in findings]  # type: ignore[attr-defined]


def test_a_sound_redis_says_nothing() -> None:
    assert states(fitness.redis_server(PRIMARY, {"aof_enabled": 1, "aof_last_write_status": "ok"}, is_local=False)) == []


def test_a_restart_that_would_lose_the_state_is_a_warning_unless_it_is_this_machine() -> None:
    assert states(fitness.redis_server(PRIMARY, {"aof_enabled": 0}, is_local=False)) == [("redis persistence", "warning")]
    assert states(fitness.redis_server(PRIMARY, {"aof_enabled": 0}, is_local=True)) == []
    assert states(fitness.redis_server(PRIMARY, {"rdb_last_bgsave_status": "err"}, is_local=True)) == [("redis persistence", "wrong")]


def test_memory_without_a_bound_cannot_be_nearly_full() -> None:
    unbounded = replace(PRIMARY, maxmemory_bytes=0, maxmemory_policy="allkeys-lru")
    assert states(fitness.redis_server(unbounded, {}, is_local=True)) == []


@pytest.mark.parametrize(("skew_s", "state"), [(0.0, "ok"), (-1.9, "ok"), (3.0, "warning"), (-61.0, "wrong")])
def test_clocks_are_judged_in_both_directions(skew_s: float, state: str) -> None:
    found = fitness.clock(skew_s, "Redis")
    assert found.state == state and (state == "ok" or ("behind" in found.text) == (skew_s < 0))


def test_a_slow_answer_is_no_skew() -> None:
    assert fitness.measured_skew_s(100.0, 95.0, 107.0) == 0.0
    assert fitness.measured_skew_s(100.0, 159.9, 160.1) == pytest.approx(60.0)


@pytest.mark.parametrize(("free", "expected"), [(5 * GB, []), (GB // 2, ["warning"]), (1_000, ["wrong"])])
def test_room_on_a_disk(free: int, expected: list[str]) -> None:
    assert [found.state for found in fitness.disk("event log", Path("/"), free)] == expected


def test_a_broker_that_tells_no_settings_is_not_judged() -> None:
    for role in ("events", "items", "recommendations"):
        assert list(fitness.topic_keeping(role, "t", {})) == []
    assert list(fitness.topic_keeping("events", "t", {"retention.ms": "-1", "cleanup.policy": "delete"})) == [], "for ever"


def test_a_namespace_that_nobody_has_read_for_is_new_and_not_lost() -> None:
    assert list(fitness.lost_state("rs", [0, 0])) == []
    assert states(fitness.lost_state("rs", [3])) == [("state", "wrong")]
