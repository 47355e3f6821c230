"""The figures of new items: what is removed stays unknown, ranks leave out a user's other choices, chance is what a random order gives."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import cold_items
from benchmarks.cold_items import Ranks, Split, by_chance, by_scores, lead, ranks_of
from benchmarks.streams.log import Log, made_log
from recsys.catalogue.item_content import ItemContent
from recsys.catalogue.item_vectors import ItemVectors, text_digests


def log_of(n_users: int = 60, n_items: int = 40) -> Log:
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(n_users), 8)
    items = [f"i{item}" for item in random.integers(0, n_items, len(users)).tolist()]
    content = {f"i{item}": ItemContent([f"c{item % 4}"]) for item in range(n_items)}
    weights = np.ones(len(users), np.float32)
    return made_log("made", users.tolist(), items, 1_600_000_000 + np.arange(len(users)), weights, content=content)


def test_the_removed_items_have_no_event_left_and_the_parts_share_none() -> None:
    log = log_of()
    test, validation = Split.of(log, 0, "test"), Split.of(log, 0, "validation")
    removed = set(test.new.tolist()) | set(validation.new.tolist())
    assert len(removed) == len(test.new) + len(validation.new) == 8
    assert not removed & set(log.items[test.kept].tolist()) and (test.kept == validation.kept).all()
    assert set(np.concatenate(list(test.targets().values())).tolist()) <= set(test.new.tolist())


def test_other_choices_of_the_user_stand_before_no_target() -> None:
    assert ranks_of(np.array([7, 3, 5, 9]), np.array([3, 9, 4])).tolist() == [2.0, 3.0, np.inf]


def test_chance_is_the_mean_over_random_orders() -> None:
    random, new = np.random.default_rng(0), np.arange(30)
    targets = {0: np.array([3, 8]), 1: np.array([4])}
    hits = [by_scores(targets, new, random.random(30)).hits().mean() for _ in range(800)]
    assert by_chance(targets, 30)["hit@10"] == pytest.approx(np.mean(hits), abs=0.04)


def test_the_interval_holds_the_lead_and_zero_only_where_there_is_none() -> None:
    random, users = np.random.default_rng(0), np.repeat(np.arange(200), 3)
    good, bad = (Ranks(users, np.where(random.random(600) < share, 1.0, np.inf)) for share in (0.5, 0.3))
    low, high = lead(good, bad, 0)
    assert 0 < low < good.hits().mean() - bad.hits().mean() < high
    assert lead(good, good, 0) == (0.0, 0.0)


def test_all_arms_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_items, "SIZE", 20)
    log = log_of()
    vectors = np.random.default_rng(0).normal(size=(log.n_items, 2)).astype(np.float16)
    texts = ItemVectors(log.item_ids, vectors, text_digests(log.item_ids, "e"), "e")
    found = cold_items.measured(log, texts, 0, "validation")
    assert set(found["new_items"]) == {"popularity", "crowd", "categories", "text", "both", "both_unmapped"}
    assert all(0 <= figures["hit@10"] <= 1 for figures in found["new_items"].values())
    assert cold_items._is_good({"both": {"ratio_to_popularity": 3.1, "hit@10_lead_over_categories": (0.01, 0.02)}})
    assert not cold_items._is_good({"both": {"ratio_to_popularity": 2.9, "hit@10_lead_over_categories": (0.01, 0.02)}})
    assert not cold_items._is_good({"both": {"ratio_to_popularity": 3.1, "hit@10_lead_over_categories": (-0.01, 0.02)}})
