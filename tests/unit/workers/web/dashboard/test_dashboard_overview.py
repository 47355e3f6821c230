"""Figures of the overview: from what workers say and from the lists that arrive; what nobody measures is said to be so."""

from __future__ import annotations

import pytest

from tests.dashboard import dashboard
from workers.web.dashboard import worker_metrics
from workers.web.dashboard.worker_metrics import Look, look_at, parsed, quantile_s

METRICS = """
recsys_records_total 1200.0
recsys_lists_total 400.0
recsys_dead_letters_total{kind="not_json"} 2.0
recsys_lag_records{partition="0"} 7.0
recsys_alarm{name="lag"} 1.0
recsys_alarm{name="dead_letters"} 0.0
recsys_ready 1.0
recsys_live_events_total{model="ials=1",variant="default"} 50.0
recsys_live_hits_total{model="ials=1",variant="default"} 20.0
recsys_live_popular_hits_total{model="ials=1",variant="default"} 5.0
recsys_serving_model_info{kind="ials",version="ials-000001"} 1.0
# TYPE recsys_freshness_seconds histogram
recsys_freshness_seconds_bucket{since="event",le="0.01"} 0.0
recsys_freshness_seconds_bucket{since="event",le="0.05"} 10.0
recsys_freshness_seconds_bucket{since="event",le="+Inf"} 10.0
recsys_freshness_seconds_bucket{since="kafka",le="+Inf"} 99.0
"""


def test_a_workers_metrics_are_read() -> None:
    look = parsed(METRICS)
    assert (look.records, look.lists, look.dead_letters, look.lag, look.alarms) == (1200.0, 400.0, 2.0, {0: 7}, ["lag"])
    assert look.live == {"ials=1": [50.0, 20.0, 5.0]} and look.models == {"ials": "ials-000001"} and look.is_ready
    assert quantile_s(look.freshness, 0.5) == pytest.approx(0.03)


async def test_a_name_with_several_addresses_is_asked_at_each_and_a_certificate_s_name_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"stream": ["10.0.0.2", "10.0.0.1", "10.0.0.2"], "trainer": ["10.0.0.3"], "safe": ["10.0.0.4", "10.0.0.5"]}

    def looked_up(host: str, port: int, *rest: object) -> list[tuple[object, ...]]:
        if host not in known:
            raise OSError("no such name")
        return [(2, 1, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(worker_metrics.socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(worker_metrics, "_fetched", lambda url: None)
    urls = ["http://stream:9100", "http://trainer:9100", "https://safe:9100", "http://nobody:9100"]
    assert list(await look_at(urls)) == ["http://10.0.0.1:9100", "http://10.0.0.2:9100", *urls[1:]]


async def test_without_a_worker_nothing_is_made_up() -> None:
    async with dashboard() as world:
        world.looks = {"http://127.0.0.1:9101": None}
        figures = await world.dashboard_parts.overview.figures()
        unknown = ("events_per_s", "lag", "lag_total", "freshness_p50_ms", "hit_rate", "popular_hit_rate", "alarms", "dead_letters")
        assert all(figures[name] is None for name in unknown)
        assert figures["workers"] == [{"address": "127.0.0.1:9101", "state": "away"}]
        assert "not measured" in await world.page("/", "reader")


async def test_rates_are_taken_of_what_grew_and_a_restart_counts_from_zero() -> None:
    async with dashboard() as world:

        def look(records: float) -> Look:
            return Look(records=records, is_stream=True, is_ready=True, lag={1: 3}, live={"a": [10.0, 4.0, 1.0]})

        world.looks = {"a": look(1000.0), "b": look(500.0)}
        await world.dashboard_parts.overview.figures()
        for number in range(3):
            world.publish(f"u{number}", ["i0"])
        world.clock_s += 2.0
        world.looks = {"a": look(1400.0), "b": look(100.0)}
        figures = await world.dashboard_parts.overview.figures()
        assert figures["events_per_s"] == pytest.approx((400 + 100) / 2) and figures["lists_per_s"] == pytest.approx(1.5)
        assert figures["lag"] == {"1": 3} and figures["hit_rate"] == pytest.approx(0.4) and figures["alarms"] == []


async def test_workers_are_asked_once_a_second_however_many_watch() -> None:
    async with dashboard() as world:
        world.looks = {"a": Look(is_stream=True)}
        first = await world.dashboard_parts.overview.figures()
        world.looks = {"a": None}
        assert await world.dashboard_parts.overview.figures() is first
        world.clock_s += 1.0
        assert (await world.dashboard_parts.overview.figures())["workers"][0]["state"] == "away"
