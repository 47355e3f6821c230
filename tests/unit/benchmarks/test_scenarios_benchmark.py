"""The benchmark of scenarios judges what a visit goes on to choose, and fails where settings of `recsys init` are worse than defaults."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from benchmarks import scenarios
from benchmarks.scenarios import CHOICES, END_S, Figures, Happened, Replay, gains, popular_now, scenario_settings
from recsys.evaluation.significance import Difference
from workers.operations.sample_data.world import Sample


def event(at_s: int, user: str, item: str, kind: str, session: str) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "type": kind, "event_ts_ms": END_S + at_s, "value": None, "session": session}


def small() -> Happened:
    """Three visits: of the second one the look at `b` leads to a purchase, the look at `a` to nothing."""
    items = [{"item_id": name, "title": name, "categories": "c", "price": 1.0, "published_ts_ms": END_S - 9} for name in "abc"]
    events = [
        event(0, "u", "a", "view", "s1"), event(1, "u", "a", "purchase", "s1"),
        event(100, "u", "b", "impression", "s2"), event(101, "u", "b", "view", "s2"), event(102, "u", "a", "view", "s2"),
        event(103, "u", "b", "add_to_cart", "s2"), event(104, "u", "b", "purchase", "s2"),
        event(200, "v", "b", "purchase", "s3"), event(300, "v", "b", "purchase", "s4"),
    ]  # fmt: skip
    return Happened.of("shop", Sample(items, [{"user_id": "u"}, {"user_id": "v"}], events))


def test_a_target_is_the_first_touch_of_what_a_visit_chooses_by_somebody_who_did_something_before() -> None:
    happened = small()
    assert happened.targets.tolist() == [3, 8]
    assert happened.judged.tolist() == [3, 8], "of two targets none is among the oldest 40 %"
    assert set(CHOICES) == set(scenarios.SAMPLES)


def test_popular_items_and_lists_are_ranked_before_the_event_is_learnt() -> None:
    happened = small()
    assert popular_now(happened).tolist() == [np.inf, 1.0], "nobody had touched b before"
    assert gains(np.array([1.0, 3.0, 11.0, np.inf])).tolist() == [1.0, 0.5, 0.0, 0.0]
    ranks = Replay(happened, scenario_settings("shop")).ranks()
    assert len(ranks) == 2 and ranks[0] < 3, "b has a description, and a is bought"
    assert ranks[1] == np.inf, "what v bought a moment ago stays off the list"


@pytest.mark.parametrize(("high", "code"), [(-0.001, 1), (0.001, 0)])
def test_settings_that_are_worse_beyond_chance_end_with_code_1(
    high: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_ranker = {name: {"recall@10": 0.5, "ndcg@10": 0.25} for name in ("popular now", "defaults", "init")}
    found = Figures("shop", 10, by_ranker, Difference(high - 0.01, high - 0.02, high, 0.5, 0.5))
    monkeypatch.setattr(scenarios, "measure", lambda name, seed: found)
    monkeypatch.setattr(sys, "argv", ["scenarios", "--scenario", "shop"])
    assert scenarios.main() == code
    assert "shop: 10 targets" in capsys.readouterr().out
