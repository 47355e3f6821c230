"""`benchmarks.homepage`: figures by hand, and what the stages do to lists of a made log."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import homepage
from benchmarks.homepage import STAGES, _divergence, _error_by_user, _gains, _gini
from benchmarks.streams.log import Log, made_log
from recsys.catalogue.items import ItemContent
from recsys.lists.default_recipe import default_recipe
from tests.unit.recsys.lists.test_learned_lists import stump

N_ITEMS, N_USERS = 90, 40


def log_of(n_events: int = 1_200) -> Log:
    """Users of three categories, who take what others of theirs took lately."""
    random = np.random.default_rng(5)
    users = random.integers(0, N_USERS, n_events)
    items = 3 * (random.integers(0, N_ITEMS // 3, n_events) ** 2 // (N_ITEMS // 3)) + users % 3
    times_s = 1_700_000_000 + 600 * np.arange(n_events)
    made = made_log("made", [f"u{user}" for user in users], [f"i{item}" for item in items], times_s, np.ones(n_events, np.float32))
    return replace(made, content={f"i{item}": ItemContent([f"c{item % 3}", "all"][: 1 + item % 2]) for item in range(N_ITEMS)})


def test_figures_are_those_by_hand() -> None:
    assert _gini(np.array([0, 0, 0, 4])) == pytest.approx(0.75) and _gini(np.array([2, 2, 2])) == 0.0 and _gini(np.zeros(3)) == 0.0
    assert _gains([1.0, 3.0, 11.0, np.inf]).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert _divergence({"a": 1.0}, {"a": 1.0}) == pytest.approx(0.0)
    assert _divergence({"a": 0.5, "b": 0.5}, {"a": 1.0}) == pytest.approx(0.5 * np.log2(0.5 / 0.995) + 0.5 * np.log2(0.5 / 0.005))
    assert np.isnan(_divergence({}, {"a": 1.0})) and np.isnan(_divergence({"a": 1.0}, {}))
    lead, users = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1])
    assert _error_by_user(lead, users) == pytest.approx(np.sqrt(2) / 4), "two users, each 1 from the mean in sum"


def test_stages_change_lists_as_they_say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(homepage, "named_log", lambda name: log_of())
    monkeypatch.setattr(homepage, "train_recipe", lambda *arguments: default_recipe())
    monkeypatch.setattr(homepage, "train_ranker", lambda *arguments: stump("recipe.rank", 1.2, 0.0, 9.0))
    monkeypatch.setattr("sys.argv", ["homepage", "--data", "ml-1m", "--targets", "120", "--json"])
    assert homepage.main() == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["ml-1m"]
    assert set(found) == {"one_category", *STAGES, "rows", "ranker"}
    assert found["ranker"]["on"]["ndcg@10"] != found["ranker"]["off"]["ndcg@10"]
    assert {name: value for name, value in found["rows"]["on"].items() if name in found["rows"]["off"] and name != "us_a_list"} == {
        name: value for name, value in found["rows"]["off"].items() if name != "us_a_list"
    }, "rows change no list"
    for stage in found.values():
        assert {"ndcg@10", "recall@10", "coverage", "gini", "diversity", "calibration", "us_a_list"} <= set(stage["on"])
        assert {name: value for name, value in stage["off"].items() if name != "churn"} == found["caps"]["off"]
    off = found["caps"]["off"]
    assert 0 < off["ndcg@10"] <= off["recall@10"] <= 1 and 0 < off["coverage"] <= 1
    assert found["dpp"]["on"]["diversity"] > off["diversity"] and found["mmr"]["on"]["diversity"] > off["diversity"]
    assert found["one_category"]["on"]["diversity"] >= off["diversity"]
    assert found["calibration"]["on"]["calibration"] <= off["calibration"]
    assert found["freshness"]["on"]["ndcg@10"] == off["ndcg@10"], "no item has a time of publication"


def test_wrong_arguments_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["homepage", "--targets", "5"])
    assert homepage.main() == 2 and len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("mmr", "dpp", "is_short"),
    [
        ((1.3, 0.96), (1.2, 0.97), False),
        ((1.3, 0.96), (1.19, 1.0), True),
        ((None, 1.0), (None, 1.0), False),
    ],
)
def test_one_stage_must_make_lists_differ_by_a_fifth_for_3_per_cent(
    mmr: tuple[float | None, float], dpp: tuple[float | None, float], is_short: bool
) -> None:
    def stage(differs: float | None, keeps: float) -> dict[str, dict[str, float | None]]:
        off = {"diversity": None if differs is None else 0.5, "ndcg@10": 0.1}
        return {"off": off, "on": {"diversity": None if differs is None else 0.5 * differs, "ndcg@10": 0.1 * keeps}}

    said = list(homepage.missed("ml-1m", {"mmr": stage(*mmr), "dpp": stage(*dpp)}))
    assert bool(said) == is_short and all("ml-1m" in line and "dpp" in line for line in said)
