"""Generated interactions with a structure that a model must find, and histories to encode."""

from __future__ import annotations

import numpy as np

from recsys.models.base import Histories
from recsys.models.training_set import TrainingSet

N_CLUSTERS = 6
ITEMS_PER_CLUSTER = 15
N_ITEMS = N_CLUSTERS * ITEMS_PER_CLUSTER


def clustered(n_users: int = 240, length: int = 14, seed: int = 3) -> TrainingSet:
    """Generate users who stay in one cluster of items nine times in ten and walk from item to item in it; clusters are equally popular."""
    random = np.random.default_rng(seed)
    users, items, ts_ms = [], [], []
    for user in range(n_users):
        cluster, at = user % N_CLUSTERS, int(random.integers(ITEMS_PER_CLUSTER))
        for step in range(length):
            at = (at + 1) % ITEMS_PER_CLUSTER
            stray = random.random() < 0.1
            items.append(int(random.integers(N_ITEMS)) if stray else cluster * ITEMS_PER_CLUSTER + at)
            users.append(user)
            ts_ms.append(1_700_000_000_000 + step * 60_000 + user)
    ids = [f"item-{i}" for i in range(N_ITEMS)]
    return TrainingSet.from_columns(np.array(users), np.array(items), ids, np.ones(len(users), np.float32), np.array(ts_ms))


def histories_of(rows: list[list[int]], length: int) -> Histories:
    """Return right-aligned histories of weight 1, a minute apart, from lists of item positions."""
    items = np.full((len(rows), length), -1, np.int32)
    weights = np.zeros((len(rows), length), np.float32)
    ages = np.zeros((len(rows), length), np.float32)
    for row, chosen in enumerate(rows):
        if chosen:
            items[row, -len(chosen) :] = chosen
            weights[row, -len(chosen) :] = 1.0
            ages[row, -len(chosen) :] = np.arange(len(chosen) - 1, -1, -1) * 60.0
    return Histories(items, weights, ages)
