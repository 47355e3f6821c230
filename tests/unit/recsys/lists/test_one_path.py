"""The lists of the one path are those of the specification, whatever way their candidates come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.lists import exact_kernel, exact_scan, indexed
from recsys.lists.context import ListContext, Users
from recsys.lists.filters import COMPILED, Seen, allowed_by
from recsys.lists.reading import CooccurrenceReading
from recsys.lists.registry import built_in
from recsys.lists.sources.base import Source, estimated_scale
from recsys.lists.sources.content import ContentSource
from recsys.lists.sources.cooccurrence import CooccurrenceSource
from recsys.lists.sources.models import ModelSource
from recsys.lists.sources.new import NewSource
from recsys.lists.sources.trending import TrendingSource
from tests.builders import batch_of
from tests.specification import lists as specification
from tests.toy_model import ToyModel

NOW_S = 1_700_000_000
N_USERS = 9
WEIGHTS = {"cooccurrence": 1.0, "content": 1.4, "toy": 0.2, "softened": 0.3, "trending": 0.02, "new": 0.02}


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
        items, weights = random.integers(0, n_items, n), random.choice([-32, 16, 32], n)
        batch = batch_of([engine.users.slot(f"u{user}") or 0], [n], items.tolist(), [NOW_S + i for i in range(n)], weights.tolist())
        engine.learn_items(engine.derive(batch).delta(engine.config))
        engine.learn_histories(batch)
    return engine


def slots_of(engine: Engine) -> NDArray[np.int64]:
    return np.array([engine.users.slot(f"u{user}") for user in range(N_USERS)], np.int64)


def assert_alike(found: Lists, expected: Lists) -> None:
    """Equal but for rounding, which puts equal scores in any order."""
    n = expected.scores.shape[1]
    np.testing.assert_allclose(found.scores[:, :n], expected.scores, atol=2e-5)
    assert np.isneginf(found.scores[:, n:]).all() and (found.items[~np.isfinite(found.scores)] == -1).all()
    found_items, listed = found.items[:, :n], np.isfinite(expected.scores)
    np.testing.assert_array_equal(found.propensities[:, :n][listed], expected.propensities[listed])
    is_sure = listed & (found_items == expected.items)
    assert is_sure.sum() >= 0.98 * listed.sum()
    assert list(found.contributions) == list(expected.contributions)
    for name, part in found.contributions.items():
        np.testing.assert_allclose(part[:, :n][is_sure], expected.contributions[name][is_sure], atol=2e-5)
    width = expected.because.shape[2]
    assert (found.because[:, :n, :width] == expected.because).all(axis=2)[is_sure].sum() >= 0.98 * is_sure.sum()


@given(
    st.sampled_from([7, 40, 900]),
    st.integers(0, 9),
    st.sampled_from(["directed", "cosine", "llr"]),
    st.sampled_from([0, 3]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), ("cooccurrence",), ("content", "toy", "softened"), ("trending", "new"), tuple(WEIGHTS)[:-1]]),
)
@settings(max_examples=40, deadline=None)
def test_lists_are_those_of_the_specification(
    n_items: int, seed: int, similarity: Any, exploration_slots: int, dense: bool, prefers: bool, without: tuple[str, ...]
) -> None:
    engine = engine_of(
        n_items,
        seed,
        reading=CooccurrenceReading(similarity=similarity),
        exploration_slots=exploration_slots,
        dense_items=10_000 if dense else 1,
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
    for row in range(N_USERS):  # the best of all, in order
        every = np.broadcast_to(np.arange(context.n_items), (N_USERS, context.n_items))
        parts = [source.score(users, every, context)[row] * found.scales[source.name][row] for source in SOURCES]
        total = np.sum(parts, axis=0)
        total[~Seen().personal(every, users, context)[row] | ~engine.catalogue.recommendable(context.valid_s)] = -np.inf
        np.testing.assert_allclose(np.sort(total)[::-1][:60], total[found.numbers[row]], atol=1e-4)


def test_a_large_catalogue_s_scales_are_those_over_all_items() -> None:
    engine = engine_of(300, exact_items=10)
    users, context = context_of(engine)
    every = np.broadcast_to(np.arange(300), (N_USERS, 300))
    for source in SOURCES:
        raw = source.score(users, every, context)
        root = np.sqrt((raw.astype(np.float64) ** 2).mean(axis=1))
        np.testing.assert_allclose(source.scale(users, context)[root > 0], 1 / root[root > 0], rtol=0.02, err_msg=source.name)
        np.testing.assert_allclose(estimated_scale(source, users, context)[root > 0], 1 / root[root > 0], rtol=1e-3, err_msg=source.name)


def test_an_estimated_scale_counts_nominated_items_as_they_are_and_others_by_a_sample() -> None:
    class Sparse(Source):
        """Scores eight items highly, and the others a little."""

        name = "sparse"

        def nominate(self, users: Users, context: ListContext, size: int) -> NDArray[np.int64]:
            return np.tile(np.array([[3, 9, 9, -1, 70, 71, 72, 73, 74, 75]]), (len(users), 1))

        def score(self, users: Users, numbers: NDArray[np.int64], context: ListContext) -> NDArray[np.float32]:
            return np.where(np.isin(numbers, [3, 9, 70, 71, 72, 73, 74, 75]), 50.0, 0.1 + numbers % 7).astype(np.float32)

    engine = engine_of(6_000, exact_items=10)
    users, context = context_of(engine)
    raw = Sparse().score(users, np.arange(6_000)[None], context).astype(np.float64)
    expected = 1 / np.sqrt((raw**2).mean())
    np.testing.assert_allclose(estimated_scale(Sparse(), users, context), expected, rtol=0.02)


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
            found = indexed._distinct([every], filters, users, context)
        else:
            found = exact_scan.candidates(SOURCES, filters, users, context, 250).numbers
        for row in range(N_USERS):
            assert sorted(found[row][found[row] >= 0].tolist()) == np.flatnonzero(allowed[row]).tolist()
        np.testing.assert_array_equal(allowed_by(filters, context), engine.catalogue.recommendable(context.valid_s))
        assert not allowed.all() and allowed.any()


DESCRIBED = st.tuples(st.none() | st.integers(-40, 3), st.none() | st.integers(-1, 2), st.booleans(), st.integers(0, 5))


@given(st.lists(DESCRIBED, min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_scores_that_all_users_share_come_from_catalogue_and_popularity(items: list[tuple[int | None, int | None, bool, int]]) -> None:
    engine = Engine(EngineConfig(source_weights={"trending": 0.3, "new": 0.2}))
    for number, (published, expires, available, chosen) in enumerate(items):
        day_s = 86_400
        engine.describe_item(
            number,
            ItemContent(
                published_s=None if published is None else NOW_S + published * day_s,
                expires_s=None if expires is None else NOW_S + expires * day_s,
                available=available,
            ),
        )
        engine.popularity.add("all", 0, np.array([number], np.uint32), np.array([64 * chosen]))
    registry = built_in()
    sources = [source for name, source in registry.sources.make().items() if name in engine.config.source_weights]
    found = exact_scan.Everybody.of(sources, list(registry.filters.make().values()), engine.shared(NOW_S))
    scores = specification.source_scores(engine, np.zeros(0, np.int64), {}, NOW_S)
    expected = specification.blend(scores.parts.values(), engine.catalogue.recommendable(NOW_S), 1)[0]
    np.testing.assert_allclose(found.total, expected, rtol=1e-5, atol=1e-6)
    for name, part in scores.parts.items():
        np.testing.assert_allclose(found.rows[name] * found.scales[name], part.raw[0] * part.factors, rtol=1e-5, atol=1e-6)


def test_the_scan_is_compiled_once() -> None:
    for similarity in ("directed", "llr"):
        for dense_items in (10_000, 1):
            engine = engine_of(40, dense_items=dense_items, reading=CooccurrenceReading(similarity=similarity))  # type: ignore[arg-type]
            engine.recommend(slots_of(engine), engine.encode(slots_of(engine)), NOW_S)
    assert len(exact_kernel.choose.signatures) == 1  # type: ignore[attr-defined]
