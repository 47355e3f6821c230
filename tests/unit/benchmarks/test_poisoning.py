"""`benchmarks.poisoning`: attacks are as its help describes them, and an item that accounts repeat is found on the lists of others."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import poisoning
from benchmarks.poisoning import DAY_S, Scene, Shares
from benchmarks.streams.log import Log, made_log
from recsys.engine import EngineConfig


def busy_log() -> Log:
    """Three days; on the second, forty users touch most items, popular ones more often."""
    random = np.random.default_rng(1)
    times_s = 1_600_041_600 + np.sort(
        np.concatenate((random.integers(0, DAY_S, 50), random.integers(DAY_S, 2 * DAY_S, 600), [2 * DAY_S + 5]))
    )
    users, items = random.integers(0, 40, len(times_s)), (random.random(len(times_s)) ** 2 * 60).astype(int)
    return made_log("made", users.tolist(), [f"i{item}" for item in items], times_s, np.ones(len(times_s), np.float32))


def test_a_scene_ends_with_the_busiest_day_and_its_target_is_rare_but_known() -> None:
    scene = Scene.of(busy_log())
    assert len(scene.log) == 650 and scene.log.times_s[0] < scene.day_s <= scene.log.times_s[50] < scene.day_s + DAY_S
    users_of = {item: len(set(scene.log.users[scene.log.items == number].tolist())) for number, item in enumerate(scene.log.item_ids)}
    assert users_of[scene.popular[0]] == max(users_of.values())
    rarer = sum(n < users_of[scene.target] for n in users_of.values()) / len(users_of)
    assert 0 < users_of[scene.target] < np.median([*users_of.values()]) and rarer <= 0.1


@pytest.mark.parametrize(("attack", "expected"), [("top", "t0 t1 t2"), ("pair", "t0 t0 t0"), ("alone", "ttt ttt")])
def test_accounts_add_events_evenly_over_the_day(attack: str, expected: str) -> None:
    scene = replace(Scene.of(busy_log()), target="t", popular=["p0", "p1", "p2"])
    log = scene.attacked(attack, 2, 6)
    assert len(log) == len(scene.log) + 12
    added = [place for place in range(len(log)) if log.item_ids[log.items[place]] in {"t", "p0", "p1", "p2"}]
    users = sorted({int(log.users[place]) for place in added})
    assert len(users) == 2
    for user in users:
        mine = [place for place in added if log.users[place] == user]
        assert np.diff(log.times_s[mine]).tolist() == [DAY_S // 6] * 5
        assert "".join(log.item_ids[log.items[place]][-1] for place in mine) == expected.replace(" ", "")


def test_an_unbounded_account_is_found_and_no_account_is_not() -> None:
    scene, config = Scene.of(busy_log()), EngineConfig()
    quiet, loud = poisoning.shares(scene, config), poisoning.shares(scene, config, "top", 10, 400)
    assert quiet.n_lists == loud.n_lists > 20
    assert loud.listed > quiet.listed and loud.first <= loud.listed <= 1


def test_the_check_fails_from_the_limit_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(poisoning, "named_log", lambda name: busy_log())
    monkeypatch.setattr(sys, "argv", ["poisoning", "--data", "otto", "--check", "--cost-events", "150"])
    for listed, code in ((0.0199, 0), (0.02, 1)):

        def shares(scene: Scene, config: EngineConfig, attack: str = "", n: int = 0, n_events: int = 0, listed: float = listed) -> Shares:
            return Shares(listed if n == 1 else 0.0, 0.0, 10)

        monkeypatch.setattr(poisoning, "shares", shares)
        assert poisoning.main() == code
        assert ("otto, top, 1 accounts: 2.0% of the lists, at most 2% may hold the target" in capsys.readouterr().err) == bool(code)
