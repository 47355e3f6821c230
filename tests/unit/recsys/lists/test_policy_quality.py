"""What the stages are for, on users whose tastes are known: more difference for hardly any accuracy, in small and in large catalogues."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.lists.policies.options import NO_POLICY, DiversityOptions, PolicyOptions
from tests.builders import batch_of, learn
from tests.unit.recsys.lists.policy_worlds import DAY_S, NOW_S, features_of, lists_with, slots_of

N_USERS, N_KINDS, N_ITEMS = 700, 16, 480
I64 = NDArray[np.int64]


def world(*, large: bool) -> tuple[Engine, I64]:
    """Return an engine, and the next item of each user, (U,). A user likes three kinds of items and stays a while with each of them; the
    next item is of any of the three, and within a kind the popular ones are chosen more often."""
    random = np.random.default_rng(5)
    engine = Engine(EngineConfig(list_size=10, exact_items=100 if large else 16_000))
    engine.ensure_items(N_ITEMS)
    engine.neighbours.hold_all()
    for number in range(N_ITEMS):
        engine.describe_item(number, ItemContent([f"k{number % N_KINDS}"], published_s=NOW_S - (number // N_KINDS % 3) * 2_500 * DAY_S))
    engine.users.load({f"u{user}": None for user in range(N_USERS)})
    chance = 1.0 / (1 + np.arange(N_ITEMS // N_KINDS))
    wanted = np.empty(N_USERS, np.int64)
    for user in range(N_USERS):
        kinds = random.choice(N_KINDS, 3, replace=False)
        stays = np.repeat(random.permutation(kinds), 6)
        ranks = random.choice(len(chance), len(stays) + 1, p=chance / chance.sum())
        items = np.append(stays, random.choice(kinds)) + N_KINDS * ranks
        wanted[user] = items[-1]
        times_s = [NOW_S - 2_000 + 60 * at for at in range(len(stays))]
        learn(engine, batch_of([engine.users.slot(f"u{user}") or 0], [len(stays)], items[:-1].tolist(), times_s, [32] * len(stays)))
    return engine, wanted


def ndcg(lists: Lists, wanted: I64) -> float:
    found = lists.items == wanted[:, None]
    return float((found / np.log2(2 + np.arange(found.shape[1]))).sum(axis=1).mean())


def difference(engine: Engine, lists: Lists) -> float:
    """Return 1 less the mean cosine of the items of a list, over all lists."""
    n = lists.items.shape[1]
    features = features_of(engine, lists.items.ravel()).reshape(*lists.items.shape, -1)
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    alike = features @ features.transpose(0, 2, 1)
    return float(1 - (alike.sum(axis=(1, 2)) - n).mean() / (n * (n - 1)))


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_diversity_gains_a_fifth_at_a_loss_of_no_more_than_3_percent_of_ndcg(large: bool) -> None:
    engine, wanted = world(large=large)
    slots = slots_of(engine)
    touched = np.array([item in engine.users.items[slot] for slot, item in zip(slots.tolist(), wanted.tolist(), strict=True)])
    slots, wanted = slots[~touched], wanted[~touched]
    plain = lists_with(engine, NO_POLICY, slots)
    accuracy, before = ndcg(plain, wanted), difference(engine, plain)
    assert accuracy > 0.1
    for kind in ("mmr", "dpp"):
        lists = lists_with(engine, PolicyOptions(diversity=DiversityOptions(kind, 0.15)), slots)  # type: ignore[arg-type]
        assert difference(engine, lists) >= 1.2 * before
        assert ndcg(lists, wanted) >= 0.97 * accuracy
