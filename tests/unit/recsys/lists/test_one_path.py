"""The lists of the one path are those of the specification, whatever way their candidates come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.lists import exact_kernel, exact_scan, indexed
from recsys.lists.context import ListContext, Users
from recsys.lists.feature_names import FEATURES
from recsys.lists.filters import COMPILED, allowed_by
from recsys.lists.ranker import SOURCES as RECIPE_SOURCES
from recsys.lists.reading import CooccurrenceReading, Recency
from recsys.lists.recipe import CLIP, Recipe, RecipeSettings
from recsys.lists.registry import built_in
from recsys.lists.sources.base import Source
from recsys.lists.sources.content import ContentSource
from recsys.lists.sources.cooccurrence import CooccurrenceSource
from recsys.lists.sources.models import ModelSource
from recsys.lists.sources.new import NewSource
from recsys.lists.sources.trending import TrendingSource
from recsys.lists.touch_policy import ALL_FOR_EVER, FOR_EVER, TouchPolicy
from tests.builders import batch_of, learn
from tests.specification import lists as specification
from tests.toy_model import ToyModel

NOW_S = 1_700_000_000
N_USERS = 9
WEIGHTS = {"cooccurrence": 1.0, "content": 1.4, "toy": 0.2, "softened": 0.3, "trending": 0.02, "new": 0.02, "again": 0.4}
POLICY = TouchPolicy([0, 0, 20, FOR_EVER, 5], {"c1": {2: FOR_EVER, 3: 0}, "c2": {3: 9}}, 4)
"""Events of the tests are a second apart."""


def engine_of(n_items: int, seed: int = 0, **config: Any) -> Engine:
    """An engine that has learnt from nine users, of whom the last two did nothing."""
    random = np.random.default_rng((n_items, seed))
    engine = Engine(EngineConfig(**{"list_size": 10, "history_length": 20, "seen_length": 50, "source_weights": WEIGHTS, **config}))
    engine.ensure_items(n_items)
    engine.neighbours.hold_all()
    for number in range(n_items):
        if random.random() < 0.9:
            content = ItemContent(
                [f"c{c}" for c in random.integers(0, 9, 3)],
                published_s=NOW_S - int(random.integers(-(10**5), 10**6)),
                expires_s=NOW_S + int(random.integers(-(10**5), 10**6)),
                available=random.random() < 0.95,
                embeddings={"text": random.standard_normal(4).tolist()} if random.random() < 0.2 else {},
            )
            engine.describe_item(number, None if random.random() < 0.1 else content)
    for kind, link, known in (("toy", "identity", 1.0), ("softened", "softmax", 0.8)):
        names = [f"i{number}" for number in range(n_items) if random.random() < known]
        model = ToyModel(names, link)  # type: ignore[arg-type]
        model.item_vectors = random.normal(size=(len(names), 2)).astype(np.float32)
        engine.serve(kind, "v1", model, {name: int(name[1:]) for name in names})
    engine.users.load({f"u{user}": None for user in range(N_USERS)})
    for user in range(N_USERS - 2):
        n = int(random.integers(1, 45))
        items, weights, types = random.integers(0, n_items, n), random.choice([-32, 16, 32], n), random.integers(0, 5, n)
        times_s = [NOW_S - 45 + i for i in range(n)]
        learn(engine, batch_of([engine.users.slot(f"u{user}") or 0], [n], items.tolist(), times_s, weights.tolist(), types.tolist()))
    return engine


def slots_of(engine: Engine) -> NDArray[np.int64]:
    return np.array([engine.users.slot(f"u{user}") for user in range(N_USERS)], np.int64)


def assert_alike(found: Lists, expected: Lists, tolerance: float = 2e-4, share: float = 0.98) -> None:
    """Equal but for rounding, which puts equal scores in any order: a user without a history may have nothing but equal ones.

    An item in the last place, or drawn for exploration, may have the score of one that is not listed: only its score is compared."""
    n = expected.scores.shape[1]
    np.testing.assert_allclose(found.scores[:, :n], expected.scores, atol=tolerance)
    assert np.isneginf(found.scores[:, n:]).all() and (found.items[~np.isfinite(found.scores)] == -1).all()
    found_items, listed = found.items[:, :n], np.isfinite(expected.scores)
    np.testing.assert_array_equal(found.propensities[:, :n][listed], expected.propensities[listed])
    is_sure = listed & (found_items == expected.items)
    with np.errstate(invalid="ignore"):
        steps = np.diff(expected.scores, axis=1) < -tolerance
    apart = listed & (expected.propensities == 1) & np.pad(steps, ((0, 0), (1, 0)), constant_values=True) & np.pad(steps, ((0, 0), (0, 1)))
    assert is_sure[apart].sum() >= share * apart.sum()
    assert list(found.contributions) == list(expected.contributions)
    for name, part in found.contributions.items():
        np.testing.assert_allclose(part[:, :n][is_sure], expected.contributions[name][is_sure], atol=tolerance)
    width = expected.because.shape[2]
    assert (found.because[:, :n, :width] == expected.because).all(axis=2)[is_sure].sum() >= share * is_sure.sum()


@given(
    st.sampled_from([7, 40, 900]),
    st.integers(0, 9),
    st.sampled_from(["directed", "cosine", "llr"]),
    st.sampled_from([0, 3]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), ("cooccurrence",), ("content", "toy", "softened"), ("trending", "new"), tuple(WEIGHTS)[:-1]]),
)
@example(40, 0, "directed", 3, False, False, False, ("trending", "new"))  # all scores of two users are equal
@example(900, 0, "directed", 3, False, True, False, ("trending", "new"))  # what is drawn has the scores of what is not
@settings(max_examples=40, deadline=None)
def test_lists_are_those_of_the_specification(
    n_items: int, seed: int, similarity: Any, exploration_slots: int, dense: bool, prefers: bool, repeats: bool, without: tuple[str, ...]
) -> None:
    engine = engine_of(
        n_items,
        seed,
        reading=CooccurrenceReading(similarity=similarity),
        exploration_slots=exploration_slots,
        dense_items=10_000 if dense else 1,
        touch_policy=POLICY if repeats else ALL_FOR_EVER,
        source_weights={name: weight for name, weight in WEIGHTS.items() if name not in without},
    )
    slots, seeds = slots_of(engine), np.arange(N_USERS)
    preferred = {0: ["c1"], N_USERS - 1: ["c2", "c3"], N_USERS - 2: ["no such category"]} if prefers else None
    vectors = engine.encode(slots)
    found = engine.recommend(slots, vectors, engine.shared(NOW_S, NOW_S + 60), seeds, preferred)
    assert_alike(found, specification.recommend(engine, slots, vectors, NOW_S, seeds, preferred, NOW_S + 60))


@pytest.mark.parametrize("block_scores", [7_000, 500_000])
def test_lists_do_not_depend_on_how_many_users_are_scanned_at_once(block_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_scan, "_BLOCK_SCORES", block_scores)
    engine = engine_of(900)
    slots = slots_of(engine)
    vectors = engine.encode(slots)
    assert_alike(engine.recommend(slots, vectors, NOW_S), specification.recommend(engine, slots, vectors, NOW_S))


def context_of(engine: Engine) -> tuple[Users, ListContext]:
    context, slots = engine.shared(NOW_S, NOW_S + 60), slots_of(engine)
    return context.users(slots, engine.encode(slots)), context


SOURCES: list[Source] = [CooccurrenceSource(), ContentSource(), ModelSource("toy"), ModelSource("softened"), TrendingSource(), NewSource()]


@pytest.mark.parametrize("dense_items", [10_000, 1])
@pytest.mark.parametrize("similarity", ["directed", "llr"])
def test_a_small_catalogue_is_scanned_with_each_source_s_own_scores(dense_items: int, similarity: Any) -> None:
    engine = engine_of(200, dense_items=dense_items, reading=CooccurrenceReading(similarity=similarity))
    users, context = context_of(engine)
    found = exact_scan.candidates(SOURCES, [], users, context, 60)
    for source in SOURCES:
        raw = source.score(users, np.maximum(found.numbers, 0), context)
        np.testing.assert_allclose(found.raw[source.name][found.valid], raw[found.valid], rtol=2e-4, atol=1e-5)
        assert raw[found.valid].any()
    for row in range(N_USERS):  # each source's best are among them
        every = np.broadcast_to(np.arange(context.n_items), (N_USERS, context.n_items))
        listable = specification.listable_items(engine, users.slots[row], NOW_S, context.valid_s)
        for source in SOURCES[:4]:
            raw = np.where(listable, source.score(users, every, context)[row], 0)
            best = np.sort(raw)[::-1][: source.size]
            assert best[best > 0].sum() <= raw[found.numbers[row][found.valid[row]]].sum() + 1e-3


@given(st.integers(0, 9), st.sampled_from([7, 300]), st.integers(0, 16), st.booleans())
@settings(max_examples=20, deadline=None)
def test_lists_by_any_recipe_are_those_of_the_specification(seed: int, n_items: int, n_hidden: int, is_large: bool) -> None:
    engine = engine_of(n_items, seed, exact_items=10 if is_large else 10_000)
    random = np.random.default_rng((seed, n_hidden))
    n = len(FEATURES)
    recipe = Recipe(
        mean=random.normal(0, 2, n).astype(np.float32),
        scale=random.uniform(0.5, 3, n).astype(np.float32),
        linear=random.normal(0, 1, n).astype(np.float32),
        hidden=random.normal(0, 0.4, (n, n_hidden)).astype(np.float32),
        bias=random.normal(0, 1, n_hidden).astype(np.float32),
        output=random.normal(0, 1, n_hidden).astype(np.float32),
        settings=RecipeSettings(Recency(0.9, 3_600.0), Recency(0.8, 1e5), Recency(0.7, 600.0), 0.4, 0.5, 3.0),
    )
    engine.use_recipe(recipe)
    slots = slots_of(engine)
    vectors = engine.encode(slots)
    if not is_large:
        found = engine.recommend(slots, vectors, engine.shared(NOW_S, NOW_S + 60))
        assert_alike(found, specification.recommend(engine, slots, vectors, NOW_S, valid_s=NOW_S + 60), 1e-3, 0.9)
    candidates, features = engine.features(slots, vectors, engine.shared(NOW_S, NOW_S + 60))
    plain = specification.plain_scores(recipe, np.clip((features.values.astype(np.float64) - recipe.mean) / recipe.scale, -CLIP, CLIP))
    without_models = engine_of(n_items, seed, exact_items=10 if is_large else 10_000, source_weights=dict.fromkeys(RECIPE_SOURCES, 1.0))
    without_models.use_recipe(recipe)
    candidates, features = without_models.features(slots, {}, without_models.shared(NOW_S, NOW_S + 60))
    lists = without_models.recommend(slots, {}, without_models.shared(NOW_S, NOW_S + 60))
    plain = specification.plain_scores(recipe, np.clip((features.values.astype(np.float64) - recipe.mean) / recipe.scale, -CLIP, CLIP))
    plain[~candidates.valid] = -np.inf
    for row in range(N_USERS):
        listed = lists.items[row][lists.items[row] >= 0]
        by_number = dict(zip(candidates.numbers[row].tolist(), plain[row].tolist(), strict=True))
        best = np.sort(plain[row])[::-1][: len(listed)]
        np.testing.assert_allclose([by_number[item] for item in listed.tolist()], best, atol=1e-3)


class Every(Source):
    """Names all items."""

    name = "every"

    def nominate(self, users: Users, context: ListContext, size: int) -> NDArray[np.int64]:
        return np.tile(np.arange(context.n_items), (len(users), 1))

    def score(self, users: Users, numbers: NDArray[np.int64], context: ListContext) -> NDArray[np.float32]:
        return np.ones(numbers.shape, np.float32)


def test_what_the_compiled_loops_leave_out_is_what_the_filters_leave_out() -> None:
    for exact_items in (10_000, 10):
        engine = engine_of(250, exact_items=exact_items)
        users, context = context_of(engine)
        filters = list(built_in().filters.make().values())
        assert all(isinstance(one, COMPILED) for one in filters) and len(filters) == len(COMPILED)
        every = np.broadcast_to(np.arange(250), (N_USERS, 250))
        allowed = np.tile(allowed_by(filters, context), (N_USERS, 1))
        for one in filters:
            personal = one.personal(every, users, context)
            allowed &= True if personal is None else personal
        if context.is_large:
            found = indexed._distinct([Every()], filters, users, context, 0)
        else:
            found = exact_scan.candidates(SOURCES, filters, users, context, 250).numbers
        for row in range(N_USERS):
            assert sorted(found[row][found[row] >= 0].tolist()) == np.flatnonzero(allowed[row]).tolist()
        np.testing.assert_array_equal(allowed_by(filters, context), engine.catalogue.recommendable(context.valid_s))
        assert not allowed.all() and allowed.any()


def test_the_scan_is_compiled_once() -> None:
    for similarity in ("directed", "llr"):
        for dense_items in (10_000, 1):
            engine = engine_of(40, dense_items=dense_items, reading=CooccurrenceReading(similarity=similarity))  # type: ignore[arg-type]
            engine.recommend(slots_of(engine), engine.encode(slots_of(engine)), NOW_S)
    assert len(exact_kernel.choose.signatures) == 1  # type: ignore[attr-defined]
