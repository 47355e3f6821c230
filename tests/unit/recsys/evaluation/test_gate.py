"""The gate: nothing serves without proof that it is better, by user and beyond chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ShapeError
from recsys.evaluation.gate import MIN_USERS, gate, lead_bounds
from recsys.evaluation.metrics import ndcg_at_k, recall_at_k
from recsys.evaluation.user_scores import UserScores

N_USERS, PER_USER = 100, 4


def scores(hit_share: float, *, seed: int = 0, n_users: int = N_USERS, per_user: int = PER_USER, rank: float = 3.0) -> UserScores:
    """Users of whose targets about this share is at `rank`, and the rest a miss."""
    hits = np.random.default_rng(seed).random(n_users * per_user) < hit_share
    return UserScores.of(np.repeat(np.arange(n_users), per_user), np.where(hits, rank, np.inf))


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.integers(1, 40).map(float), st.just(np.inf))), min_size=1))
def test_scores_by_user_add_up_to_the_metrics_over_targets(cases: list[tuple[int, float]]) -> None:
    users, ranks = np.array([user for user, _ in cases]), np.array([rank for _, rank in cases])
    found = UserScores.of(users, ranks)
    assert found.users.tolist() == sorted(set(users.tolist())) and found.n_targets == len(cases)
    assert found.mean_ndcg == pytest.approx(ndcg_at_k(ranks, 10))
    assert found.n_hits / len(cases) == pytest.approx(recall_at_k(ranks, 10))
    sums = [ndcg_at_k(ranks[users == user], 10) * np.count_nonzero(users == user) for user in found.users.tolist()]
    assert found.ndcg.tolist() == pytest.approx(sums)


@pytest.mark.parametrize(
    ("challenger", "why"),
    [
        (UserScores.of(np.zeros(0, np.int64), np.zeros(0)), "no target of a user with a history"),
        (scores(0.5, n_users=49), "196 targets of users with a history, fewer than min_targets (200)"),
        (scores(0.5, n_users=MIN_USERS - 1, per_user=20), f"19 users, fewer than the {MIN_USERS}"),
        (scores(0.0), "no hit among the first 10 places on 400 targets"),
        (UserScores(np.arange(30), np.full(30, 10), np.ones(30, np.int64), np.full(30, np.nan)), "not a finite number"),
    ],
    ids=["no targets", "few targets", "few users", "no hit", "not finite"],
)
def test_an_outcome_that_proves_nothing_is_refused(challenger: UserScores, why: str) -> None:
    nothing = UserScores(challenger.users, challenger.targets, np.zeros_like(challenger.hits), np.zeros(len(challenger.users)))
    for decision in (gate(challenger), gate(challenger, nothing), gate(challenger, nothing, {"popularity": nothing})):
        assert not decision.promote and why in decision.reason
        assert all(np.isfinite(figure) for figure in decision.figures.values())


def test_a_caller_may_accept_fewer_targets_and_users() -> None:
    few = scores(1.0, n_users=3, per_user=2)
    assert not gate(few, min_targets=7).promote
    assert gate(few, min_targets=2, baselines={"popularity": scores(0.0, n_users=3, per_user=2)}).promote


@pytest.mark.parametrize("rival", ["champion", "popularity", "recent_popularity"])
def test_a_challenger_has_to_beat_champion_and_baselines_alike(rival: str) -> None:
    better, weak = scores(0.5), scores(0.1, seed=1)
    rivals: dict[str, UserScores] = {"champion": weak, "popularity": weak, "recent_popularity": weak}

    def decided(of: dict[str, UserScores]) -> Any:
        return gate(better, of["champion"], {name: of[name] for name in ("popularity", "recent_popularity")})

    won = decided(rivals)
    assert won.promote and "better beyond chance than champion" in won.reason and "recent popularity" in won.reason
    assert won.figures["least_lead_over_" + rival] > 0
    lost = decided(rivals | {rival: scores(0.7, seed=2)})
    assert not lost.promote and f"not better beyond chance than {rival.replace('_', ' ')}" in lost.reason
    assert lost.figures["lead_over_" + rival] < 0


def test_figures_of_the_demo_of_28_november_are_refused() -> None:
    """NDCG@10 of .0194 against popularity's .0460 was promoted, because the champion was worse still."""
    challenger, popular, champion = (scores(share, seed=seed, n_users=400) for share, seed in ((0.0388, 0), (0.092, 1), (0.01, 2)))
    decision = gate(challenger, champion, {"popularity": popular})
    assert not decision.promote and "popularity 0.04" in decision.reason


def test_a_lead_of_chance_is_not_enough_and_an_equal_model_stays_out() -> None:
    promoted = [gate(scores(0.2, seed=2 * seed), scores(0.2, seed=2 * seed + 1)).promote for seed in range(200)]
    assert sum(promoted) <= 12, "2.5 % of 200 are 5"
    same = scores(0.3)
    assert not gate(same, same).promote


def test_one_user_with_a_thousand_targets_decides_nothing() -> None:
    """The challenger leads by far on the targets of one user, and loses nearly everywhere else."""
    users = np.concatenate([np.repeat(np.arange(N_USERS), 4), np.full(1_000, N_USERS)])
    is_bot = users == N_USERS
    challenger, champion = (UserScores.of(users, np.where(is_bot == good, 1.0, np.inf)) for good in (True, False))
    assert challenger.mean_ndcg > 2 * champion.mean_ndcg
    assert not gate(challenger, champion).promote
    assert not gate(champion, challenger).promote, "nor does leading everywhere but there"


def test_a_tolerance_lets_a_fresh_model_pass_that_is_not_worse_by_more() -> None:
    ranks = np.where(np.random.default_rng(0).random(400) < 0.5, 3.0, np.inf)
    users = np.repeat(np.arange(100), 4)
    champion = UserScores.of(users, ranks)
    ranks[np.flatnonzero(ranks == 3.0)[:4]] = np.inf
    slightly_worse = UserScores.of(users, ranks)
    assert not gate(slightly_worse, champion).promote
    lenient = gate(slightly_worse, champion, tolerance=0.1)
    assert lenient.promote and "less 10%" in lenient.reason
    assert not gate(slightly_worse, champion, {"popularity": champion}, tolerance=0.1).promote, "a baseline gets no discount"


def test_a_floor_may_be_reached_but_not_missed_beyond_chance() -> None:
    better, weak = scores(0.5), scores(0.1, seed=1)
    assert gate(better, weak, floors={"recent_popularity": better}).promote, "as good as the floor"
    reached = gate(better, weak, floors={"recent_popularity": scores(0.48, seed=5)})
    assert reached.promote and "not below recent popularity" in reached.reason
    missed = gate(better, weak, floors={"recent_popularity": scores(0.8, seed=3)})
    assert not missed.promote and "below recent popularity" in missed.reason
    assert not gate(weak, weak, floors={"recent_popularity": weak}).promote, "and the champion is beaten all the same"


def test_the_same_seed_decides_the_same_and_resamples_users_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    leads = np.random.default_rng(1).normal(0.1, 1.0, (2, 50))
    targets = np.ones(50, np.int64)
    bounds = lead_bounds(leads, targets, seed=4)
    assert bounds.tolist() == lead_bounds(leads, targets, seed=4).tolist() != lead_bounds(leads, targets, seed=5).tolist()
    monkeypatch.setattr("recsys.evaluation.gate._BLOCK_DRAWS", 333)
    assert lead_bounds(leads, targets, seed=4).tolist() == bounds.tolist()
    for (low, high), mean, error in zip(bounds, leads.mean(axis=1), leads.std(axis=1) / np.sqrt(50), strict=True):
        assert mean - 3 * error < low < mean - error and mean + error < high < mean + 3 * error


def test_contenders_judged_on_different_targets_are_an_error() -> None:
    with pytest.raises(ShapeError, match="different targets"):
        gate(scores(0.5), scores(0.5, n_users=99))
