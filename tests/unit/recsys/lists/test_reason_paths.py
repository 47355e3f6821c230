"""Reasons that name the value through which a model leads from an own item to a listed one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.catalogue.item_content import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.lists import path_kernel
from recsys.lists.reason_paths import label_of
from recsys.models.descriptions import ItemDescriptions
from recsys.models.lightgcn.config import LightGCNConfig
from recsys.models.lightgcn.training import fit
from recsys.state.interactions import Interactions
from tests.unit.recsys.models.model_cases import ITEMS_PER_CLUSTER, N_ITEMS, clustered

IDS = [f"item-{i}" for i in range(N_ITEMS)]
CONTENTS = {i: ItemContent(["film"], {"director": f"d{i // ITEMS_PER_CLUSTER}"}) for i in range(N_ITEMS)}


@pytest.mark.parametrize(("exact_items", "reasons"), [(1_000, True), (10, True), (1_000, False)])
def test_a_place_that_an_own_item_explains_names_the_director_of_both(exact_items: int, reasons: bool) -> None:
    data = replace(clustered(n_users=60), descriptions=ItemDescriptions.of(CONTENTS, IDS))
    model = fit(data, LightGCNConfig(factors=8, max_epochs=3, knowledge_weight=50.0))
    weights = {"lightgcn": 1.0, "content": 0.1}
    engine = Engine(EngineConfig(exact_items=exact_items, source_weights=weights, list_size=5, exploration_slots=0, reasons=reasons))
    for number, content in CONTENTS.items():
        engine.describe_item(number, content)
    engine.serve("lightgcn", "v", model, {item_id: at for at, item_id in enumerate(IDS)})
    engine.users.load({"u": None})
    slots, one = np.array([engine.users.slot("u")]), np.zeros(1, np.int64)
    batch = Interactions(
        slots, np.ones(1, np.int64), np.array([17], np.uint32), np.zeros(1, np.uint32), np.full(1, 32, np.int8),
        np.zeros(1, np.int8), one.astype(np.int32), one,
    )  # fmt: skip
    engine.learn_histories(engine.derive(batch))
    lists = engine.recommend(slots, engine.encode(slots), 10)
    if not reasons:
        assert lists.reasons is None
        return
    assert lists.reasons is not None
    named = [(int(lists.items[0, k]), lists.reasons.kind(0, k), lists.reasons.category(0, k)) for k in range(5)]
    explained = [(item, category) for item, kind, category in named if kind == "because"]
    assert explained and all(lists.because[0, k, 0] == 17 for k in range(5) if named[k][1] == "because")
    for item, category in explained:
        assert category == ("director: d1" if item // ITEMS_PER_CLUSTER == 1 else category)
        assert category in (None, "director: d1", "category: film")
    assert "director: d1" in [category for _, category in explained]


def test_the_shared_value_that_adds_most_is_found_and_no_other() -> None:
    starts = np.array([0, 2, 5, 6, 6])
    columns, weights = np.array([0, 2, 0, 1, 2, 1], np.int32), np.array([1, 1, 0.5, 9, 2, 1], np.float32)
    given, users = np.array([[3.0], [5], [1]], np.float32), np.array([[1.0], [-1], [1], [1], [1]], np.float32)
    found = np.empty(5, np.int64)
    path_kernel.strongest(starts, columns, weights, given, users, np.array([1, 1, 1, 3, -1]), np.array([0, 0, 2, 0, 0]), found)
    # 0.5 · 3 < 2 · 1; what counts against the item is no reason; only what both say; nothing said; no item
    assert found.tolist() == [2, -1, 1, -1, -1]


def test_values_are_called_by_their_field_and_cut_to_what_a_record_holds() -> None:
    assert label_of("attribute.director\x1fMichael Mann") == "director: Michael Mann"
    assert label_of("category\x1fDrama") == "category: Drama"
    assert label_of("era\x1f12") == ""
    assert len(label_of("attribute.a\x1f" + "x" * 256)) == 256
