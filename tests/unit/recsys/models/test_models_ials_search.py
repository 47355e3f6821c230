"""The search for α₀ and λ, and that serving folds in what training reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.errors import ModelError
from recsys.models.base import Histories
from recsys.models.ials import search
from recsys.models.ials.config import DEFAULT_REGULARISATION, DEFAULT_UNOBSERVED_WEIGHT, IALSConfig
from recsys.models.ials.model import IALSModel, fit
from recsys.models.ials.search import DEFAULT, RIDGE_RATIOS, UNOBSERVED_RATIOS, scaled, searched
from recsys.models.ials.sweeps import both_sides, half_sweep
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import clustered

SMALL = {"factors": 8, "epochs": 4}


def sparse(n_users: int = 500, n_items: int = 4_000, n_clusters: int = 100, seed: int = 0) -> TrainingSet:
    """Generate users of eight different items of one cluster each, in a catalogue that is large for them."""
    random = np.random.default_rng(seed)
    per_cluster = n_items // n_clusters
    items = np.concatenate([user % n_clusters * per_cluster + random.permutation(per_cluster)[:8] for user in range(n_users)])
    users = np.repeat(np.arange(n_users), 8)
    ids = [f"i{n}" for n in range(n_items)]
    return TrainingSet.from_columns(users, items, ids, np.ones(len(users), np.float32), np.arange(len(users), dtype=np.int64))


def test_the_search_beats_the_defaults_where_the_catalogue_is_large_for_its_users() -> None:
    entries = sparse().entries(100)
    chance = np.random.default_rng(0)
    held = search.hold_out(entries, chance)
    config = IALSConfig(factors=16, epochs=4)
    found, goes_on = searched(entries, config)
    assert goes_on
    fixed = replace(config, unobserved_weight=DEFAULT_UNOBSERVED_WEIGHT, regularisation=DEFAULT_REGULARISATION)
    assert search.gains_of(held, found).mean() > 1.2 * search.gains_of(held, fixed).mean()
    assert found.searched_pairs == len(entries)


def test_the_same_seed_finds_the_same_setting_and_the_same_factors() -> None:
    models = [fit(clustered(), IALSConfig(**SMALL, seed=3)) for _ in range(2)]  # type: ignore[arg-type]
    assert models[0].settings == models[1].settings
    np.testing.assert_array_equal(models[0].item_vectors, models[1].item_vectors)


@pytest.mark.parametrize("axis", [1, 10])
def test_a_setting_means_the_same_whatever_the_size_of_the_axis(axis: int) -> None:
    entries = clustered()
    wide = TrainingSet(
        entries.users, entries.items, entries.weights, entries.ts_ms, [str(n) for n in range(axis * entries.n_items)], entries.n_users
    )
    found = scaled(IALSConfig(), wide, (10.0, 0.3))
    mean = len(entries) / entries.n_users
    assert found.alpha * wide.n_items == pytest.approx(10 * mean)
    assert found.ridge * (mean + found.alpha * wide.n_items) == pytest.approx(0.3 * mean)


def test_options_that_are_given_stay_and_the_others_are_searched() -> None:
    both = fit(clustered(), IALSConfig(**SMALL, unobserved_weight=0.3, regularisation=0.02))  # type: ignore[arg-type]
    assert (both.settings.unobserved_weight, both.settings.regularisation, both.settings.searched_pairs) == (0.3, 0.02, 0)
    one = fit(clustered(), IALSConfig(**SMALL, unobserved_weight=0.3))  # type: ignore[arg-type]
    assert one.settings.unobserved_weight == 0.3 and one.settings.regularisation is not None and one.settings.searched_pairs > 0
    none = fit(clustered(), IALSConfig(**SMALL, search_share=0))  # type: ignore[arg-type]
    assert none.settings == scaled(IALSConfig(**SMALL, search_share=0), clustered().entries(100), DEFAULT)  # type: ignore[arg-type]


def test_too_few_preferences_decide_nothing() -> None:
    few = clustered(n_users=30)
    assert searched(few.entries(100), IALSConfig(**SMALL))[0].searched_pairs == 0  # type: ignore[arg-type]


def test_progress_names_every_setting_and_may_stop_the_search() -> None:
    said: list[tuple[float, str]] = []
    full, _ = searched(clustered().entries(100), IALSConfig(**SMALL), lambda done, line: not said.append((done, line)))  # type: ignore[arg-type,func-returns-value]
    assert len(said) == len(UNOBSERVED_RATIOS) * len(RIDGE_RATIOS) + 4 and full.searched_pairs > 0
    assert [done for done, _ in said] == sorted(done for done, _ in said) and said[-1][0] == pytest.approx(0.4)
    stopped, goes_on = searched(clustered().entries(100), IALSConfig(**SMALL), lambda done, line: False)  # type: ignore[arg-type]
    expected = scaled(IALSConfig(**SMALL), clustered().entries(100), DEFAULT)  # type: ignore[arg-type]
    assert not goes_on
    assert (stopped.alpha, stopped.ridge) == (expected.alpha, expected.ridge)


def test_work_is_bounded_by_sampling_users(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = search.gains_of
    monkeypatch.setattr(search, "HELD_USERS", 60)
    monkeypatch.setattr(search, "MIN_HELD", 20)
    monkeypatch.setattr(search, "gains_of", lambda held, config: sizes.append(held.training.n_users) or plain(held, config))
    searched(clustered().entries(100), IALSConfig(**SMALL, search_share=0.01))  # type: ignore[arg-type]
    assert set(sizes) == {120}


def test_a_warm_start_keeps_the_setting_until_the_log_has_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = MODELS["ials"]
    config = kind.configure(SMALL)
    first = fit(clustered(), config)
    again: IALSModel = kind.fit(clustered(n_users=400), kind.refit(config), None, first)  # type: ignore[assignment]
    assert again.settings == first.settings
    assert fit(clustered(n_users=720), config, None, first).settings.searched_pairs > 2 * first.settings.searched_pairs
    explicit = fit(clustered(), IALSConfig(**SMALL, unobserved_weight=0.3, regularisation=0.02))  # type: ignore[arg-type]
    assert fit(clustered(), config, None, explicit).settings == first.settings, "the options were taken out again: searched"


def test_serving_folds_in_what_training_reads() -> None:
    """Repeats, changed minds and more items than a history holds: the vector of a history is that of the user's row in training."""
    random = np.random.default_rng(0)
    n = 3_000
    log = TrainingSet.from_columns(
        random.integers(0, 60, n), random.integers(0, 50, n), [f"i{k}" for k in range(50)],
        random.choice(np.array([1.0, 0.5, 2.0, -1.0], np.float32), n), np.arange(n, dtype=np.int64),
    )  # fmt: skip
    config = IALSConfig(factors=8, epochs=3, history_length=20, tolerance=1e-7, search_share=0)
    model = fit(log, config)
    entries = log.entries(20)
    assert np.bincount(entries.users).max() == 20 < np.bincount(log.last_of_pairs().users).max()
    in_training = half_sweep(both_sides(entries)[0], torch.from_numpy(model.item_vectors), torch.zeros((60, 8)), model.settings).numpy()
    starts, raw = entries.user_starts(), log.user_starts()
    for length, source, begins in ((20, entries, starts), (int(np.diff(raw).max()), log, raw)):
        items, weights = np.full((60, length), -1, np.int32), np.zeros((60, length), np.float32)
        for user in range(60):
            own = slice(begins[user + 1] - min(length, begins[user + 1] - begins[user]), begins[user + 1])
            if source is log:  # the events of the items that the history holds, repeats and changed minds among them
                held = np.isin(log.items[own], entries.items[starts[user] : starts[user + 1]])
                chosen, weighed = log.items[own][held], log.weights[own][held]
            else:
                chosen, weighed = source.items[own], source.weights[own]
            items[user, length - len(chosen) :], weights[user, length - len(chosen) :] = chosen, weighed
        found = model.encode(Histories(items, weights, np.zeros_like(weights)))
        np.testing.assert_allclose(found, in_training, rtol=1e-3, atol=1e-4)


def test_an_open_option_is_stored_and_read_back() -> None:
    assert IALSConfig().unobserved_weight is None and IALSConfig(unobserved_weight=None).alpha == DEFAULT_UNOBSERVED_WEIGHT
    with pytest.raises(ModelError, match="unobserved_weight"):
        IALSConfig(unobserved_weight=-1)
    with pytest.raises(ModelError, match="factors"):
        IALSConfig(factors=None)  # type: ignore[arg-type]
