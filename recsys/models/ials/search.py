"""Find the unobserved weight α₀ and the regularisation λ of iALS on held-out interactions, cheap settings first.

Both depend on the size of the axes: in a row of n interactions over I columns the unobserved pairs weigh α₀ · I against n, and the ridge is
λ · (n + α₀ I)^ν. So settings are tried as two ratios that mean the same in every catalogue: the weight of all unobserved pairs, and the
ridge, of a user of n̄ interactions, each over n̄, the mean over users.

Successive halving (Jamieson & Talwalkar 2016): every setting is trained with few factors and sweeps, the best ones again with more. The
newest preferences of some users are left out of all trainings, and each is ranked among all items from the rest of its user's history.
The work is bounded by `search_share` of that of one training; users are sampled where it would be more. Nothing depends on the clock, so
that a seed always gives the same setting, unless `progress` stops the search: then the best setting so far counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.models.base import F32
from recsys.models.devices import device_of
from recsys.models.ials.config import IALSConfig
from recsys.models.ials.sweeps import both_sides, half_sweep, random_factors
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet

UNOBSERVED_RATIOS = (3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0)
"""Settings of α₀ I / n̄ that are tried."""
RIDGE_RATIOS = (0.03, 0.08, 0.15, 0.3, 0.6)
"""Settings of λ (n̄ + α₀ I)^ν / n̄ that are tried."""
DEFAULT = (30.0, 0.15)
"""The setting where nothing is searched: near the best on catalogues of 3,000 to 5,000 items."""
ROUNDS = ((16, 3, 30), (64, 5, 4))
"""Factors, sweeps and number of settings of each round."""
HELD_USERS = 2_000
HELD_SHARE = 0.2
"""Of a user's preferences so many are left out, the newest; at least one, at most `HELD_OF_USER`."""
HELD_OF_USER = 3
MIN_HELD = 200
"""With fewer preferences left out, chance would decide."""
RANKED_SCORES = 100_000_000
"""Scores of one setting's evaluation: bounds the preferences ranked in large catalogues."""
BLOCK_SCORES = 4_000_000
CUT = 100
"""A preference counts 1/log2(1 + rank) up to this rank: lower ones say little about lists."""

Setting = tuple[float, float]
Gains = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Held:
    """Interactions without those left out, and the latter: T preferences, `users` and `items` (T,)."""

    training: TrainingSet
    users: NDArray[np.int64]
    items: NDArray[np.int64]


def scaled(config: IALSConfig, entries: TrainingSet, setting: Setting) -> IALSConfig:
    """Return the configuration with what it leaves open set for these interactions."""
    unobserved_ratio, ridge_ratio = setting
    mean = max(len(entries) / max(entries.n_users, 1), 1.0)
    n_items = max(entries.n_items, 1)
    weight = unobserved_ratio * mean / n_items if config.unobserved_weight is None else config.unobserved_weight
    scale = (mean + weight * n_items) ** config.frequency_exponent
    regularisation = ridge_ratio * mean / scale if config.regularisation is None else config.regularisation
    return replace(config, unobserved_weight=weight, regularisation=regularisation)


def searched(entries: TrainingSet, config: IALSConfig, progress: Progress | None = None) -> tuple[IALSConfig, bool]:
    """Return the configuration with the best setting of what it leaves open, and whether training may go on."""
    if not config.search_share or (config.unobserved_weight is not None and config.regularisation is not None):
        return scaled(config, entries, DEFAULT), True
    chance = np.random.default_rng(config.seed & 0xFFFFFFFF)
    held = hold_out(_sampled(entries, config, chance), chance)
    if len(held.users) < MIN_HELD:
        return scaled(config, entries, DEFAULT), True
    settings: list[Setting] = _settings(config)
    n_all = sum(min(n, len(settings)) for _, _, n in ROUNDS)
    n_done = 0
    for factors, sweeps, n_settings in ROUNDS:
        gains: dict[Setting, Gains] = {}
        for setting in settings[:n_settings]:
            tried = replace(scaled(config, held.training, setting), factors=min(factors, config.factors), epochs=min(sweeps, config.epochs))
            gains[setting] = gains_of(held, tried)
            n_done += 1
            message = f"ials: setting {n_done} of {n_all}, unobserved {setting[0]:g}, ridge {setting[1]:g}: {gains[setting].mean():.4f}"
            if not go_on(progress, 0.4 * n_done / n_all, message):
                return replace(scaled(config, entries, _best_first(gains)[0]), searched_pairs=len(entries)), False
        settings = _best_first(gains)
    return replace(scaled(config, entries, _chosen(gains)), searched_pairs=len(entries)), True


def _settings(config: IALSConfig) -> list[Setting]:
    ratios = UNOBSERVED_RATIOS if config.unobserved_weight is None else (DEFAULT[0],)
    ridges = RIDGE_RATIOS if config.regularisation is None else (DEFAULT[1],)
    every = [(ratio, ridge) for ratio in ratios for ridge in ridges]
    return sorted(every, key=lambda setting: (setting != DEFAULT, setting))  # the default first: it counts if the search is stopped


def _best_first(gains: dict[Setting, Gains]) -> list[Setting]:
    return sorted(gains, key=lambda setting: -float(gains[setting].mean()))  # stable: of equal ones the earlier


def _chosen(gains: dict[Setting, Gains]) -> Setting:
    """Return the strongest ridge among the settings that are no worse than the best beyond one standard error.

    The search trains shorter and on fewer interactions, both of which favour weaker ridges (rule: Breiman et al. 1984)."""
    best = gains[_best_first(gains)[0]]
    as_good = []
    for setting, found in gains.items():
        lead = best - found
        if lead.mean() <= lead.std() / len(lead) ** 0.5:
            as_good.append(setting)
    return max(as_good, key=lambda setting: (setting[1], setting[0]))


def _sampled(entries: TrainingSet, config: IALSConfig, chance: np.random.Generator) -> TrainingSet:
    """Return the interactions of so many users that the search stays within its share of one training's work."""
    n_settings = len(_settings(config))
    work = sum(min(n, n_settings) * _work(entries, min(f, config.factors), min(s, config.epochs)) for f, s, n in ROUNDS)
    share = config.search_share * _work(entries, config.factors, config.epochs) / max(work, 1.0)
    n_users = max(int(share * entries.n_users), min(2 * HELD_USERS, entries.n_users))
    if n_users >= entries.n_users:
        return entries
    chosen = np.zeros(entries.n_users, bool)
    chosen[chance.choice(entries.n_users, n_users, replace=False)] = True
    kept = chosen[entries.users]
    return TrainingSet.from_columns(
        entries.users[kept], entries.items[kept], entries.item_ids, entries.weights[kept], entries.ts_ms[kept]
    )


def _work(entries: TrainingSet, factors: int, sweeps: int) -> float:
    """Return the multiplications of a training, about: some four steps of conjugate gradients a row and an entry."""
    return 4.0 * sweeps * factors * (2 * len(entries) + factors * (entries.n_users + entries.n_items))


def hold_out(entries: TrainingSet, chance: np.random.Generator) -> Held:
    """Leave out the newest preferences of some users who have others."""
    starts = entries.user_starts()
    counts = np.diff(starts)
    able = np.flatnonzero(counts >= 2)
    users = np.sort(chance.choice(able, min(len(able), HELD_USERS), replace=False)) if len(able) else able
    n_held = np.clip((counts[users] * HELD_SHARE).astype(np.int64), 1, HELD_OF_USER)
    held = np.zeros(len(entries), bool)
    ends = np.repeat(starts[users + 1], n_held)
    held[ends - 1 - (np.arange(len(ends)) - np.repeat(np.cumsum(n_held) - n_held, n_held))] = True
    held &= entries.weights > 0
    training = TrainingSet(
        entries.users[~held], entries.items[~held], entries.weights[~held], entries.ts_ms[~held], entries.item_ids, entries.n_users
    )
    known = np.bincount(training.items, minlength=entries.n_items) > 0
    places = np.flatnonzero(held & known[entries.items])
    most = max(RANKED_SCORES // max(entries.n_items, 1), MIN_HELD)
    if len(places) > most:
        places = places[np.linspace(0, len(places) - 1, most).astype(np.int64)]
    return Held(training, entries.users[places].astype(np.int64), entries.items[places].astype(np.int64))


def gains_of(held: Held, config: IALSConfig) -> Gains:
    """Return the discounted gain of each preference left out, up to rank `CUT`, by a model trained on the rest, (T,)."""
    with torch.inference_mode():
        device = device_of(config.device)
        by_user, by_item = both_sides(held.training, device)
        item_factors = random_factors(held.training.n_items, config).to(device)
        user_factors = torch.zeros((held.training.n_users, config.factors), device=device)
        for _ in range(config.epochs):
            user_factors = half_sweep(by_user, item_factors, user_factors, config)
            item_factors = half_sweep(by_item, user_factors, item_factors, config)
        user_factors = half_sweep(by_user, item_factors, user_factors, config)
    ranks = _ranks(held, user_factors.cpu().numpy(), item_factors.cpu().numpy())
    gains: Gains = np.where(ranks <= CUT, 1 / np.log2(1 + ranks), 0.0)
    return gains


def _ranks(held: Held, users: F32, items: F32) -> Gains:
    """Return the rank of each preference left out among the items that its user has not touched, (T,); ties share their mean rank."""
    starts = held.training.user_starts()
    ranks = np.empty(len(held.users))
    step = max(1, BLOCK_SCORES // max(len(items), 1))
    for first in range(0, len(ranks), step):
        block = slice(first, first + step)
        scores = users[held.users[block]] @ items.T
        wanted = np.take_along_axis(scores, held.items[block][:, None], axis=1)
        for row, user in enumerate(held.users[block].tolist()):
            scores[row, held.training.items[starts[user] : starts[user + 1]]] = -np.inf
        ranks[block] = 0.5 + (scores > wanted).sum(axis=1) + (scores == wanted).sum(axis=1) / 2  # the preference itself is one of the equal
    return ranks
