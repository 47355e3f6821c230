"""Lists from candidates are those of the exact path, and the index finds what is to be found."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.catalogue import content_kernel
from recsys.catalogue.items import Catalogue, ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.index import scan_kernel
from recsys.index.vectors import VectorIndex
from recsys.lists import candidates_kernel, exact_kernel, reasons
from recsys.lists.learned import features_kernel as learned
from recsys.lists.reading import CooccurrenceReading
from recsys.lists.serving import index_of
from recsys.lists.sources import cooccurrence_kernel, models_kernel
from recsys.models.base import F32, Histories
from recsys.state import shown_kernel
from tests.builders import batch_of, learn
from tests.unit.recsys.lists.test_learned_lists import stump
from workers.stream.warm_up import compile_all

NOW_S = 1_700_000_000
DAY_S = 86_400
N_ITEMS = 60


class Factors:
    """The mean of the known items' vectors."""

    def __init__(self, kind: str, link: Literal["identity", "softmax"], vectors: F32) -> None:
        self.kind, self.link, self.item_vectors, self.history_length = kind, link, vectors, 20
        self.item_ids = [f"i{n}" for n in range(len(vectors))]

    def encode(self, histories: Histories) -> F32:
        known = (histories.items >= 0) & (histories.weights > 0)
        summed = np.einsum("ul,uld->ud", known.astype(np.float32), self.item_vectors[np.maximum(histories.items, 0)])
        return (summed / np.maximum(known.sum(axis=1), 1)[:, None]).astype(np.float32)

    @property
    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        raise NotImplementedError


def content(number: int, embedded: bool) -> ItemContent:
    random = np.random.default_rng(number)
    return ItemContent(
        [f"c{number % 4}", f"d{number % 3}"],
        {"brand": f"b{number % 5}"} if number % 2 else {},
        published_s=NOW_S - (number % 50) * DAY_S,
        embeddings={"text": random.standard_normal(6).tolist()} if embedded and number % 3 else {},
    )


def engine_of(exact_items: int, events: list[list[tuple[int, int]]], *, embedded: bool = False, **config: Any) -> Engine:
    engine = Engine(EngineConfig(**{"list_size": 10, "history_length": 20, "seen_length": 50, "exact_items": exact_items, **config}))
    engine.ensure_items(N_ITEMS)
    engine.neighbours.hold_all()
    random = np.random.default_rng(4)
    for number in range(N_ITEMS - 5):  # the last ones are described by nobody
        engine.describe_item(number, content(number, embedded))
    for kind, link in (("ials", "identity"), ("sasrec", "softmax")):
        vectors = random.standard_normal((N_ITEMS - 10, 5)).astype(np.float32)
        engine.serve(kind, "v1", Factors(kind, link, vectors), {f"i{n}": n for n in range(N_ITEMS)})  # type: ignore[arg-type]
    engine.users.load({f"u{i}": None for i in range(len(events))})
    for i, own in enumerate(events):
        if own:
            items, weights = zip(*own, strict=True)
            batch = batch_of([slot_of(engine, i)], [len(own)], items, [NOW_S + 20 * n for n in range(len(own))], weights)
            learn(engine, batch)
    return engine


def slot_of(engine: Engine, user: int) -> int:
    slot = engine.users.slot(f"u{user}")
    assert slot is not None
    return slot


EVENTS = st.lists(st.lists(st.tuples(st.integers(0, N_ITEMS - 1), st.sampled_from([-32, 16, 32])), max_size=30), min_size=1, max_size=5)


@given(
    EVENTS,
    st.booleans(),
    st.sets(st.integers(0, N_ITEMS - 1), max_size=8),
    st.integers(0, 3),
    st.sampled_from(["directed", "cosine", "llr"]),
)
@settings(max_examples=30, deadline=None)
def test_candidates_that_are_all_items_make_the_exact_lists(
    events: list[list[tuple[int, int]]], embedded: bool, gone: set[int], exploration_slots: int, similarity: Any
) -> None:
    config = {"exploration_slots": exploration_slots, "reading": CooccurrenceReading(similarity=similarity)}
    exact, large = (engine_of(limit, events, embedded=embedded, **config) for limit in (10_000, 10))
    made = []
    for engine in (exact, large):
        for number in gone:
            engine.describe_item(number, None)
        slots = np.array([slot_of(engine, i) for i in range(len(events))])
        seeds = np.arange(len(events))
        made.append(engine.recommend(slots, engine.encode(slots), NOW_S + 3_000, seeds, {0: ["c1"]}))
    assert large.catalogue.kinds is not None and exact.catalogue.kinds is None
    exact_lists, lists = made
    listed = np.isfinite(exact_lists.scores)
    named = np.isfinite(lists.scores)
    if not exploration_slots:
        np.testing.assert_array_equal(named, listed)
        np.testing.assert_allclose(lists.scores[named], exact_lists.scores[named], rtol=2e-4, atol=2e-5)
    for user in range(len(events)):
        own = dict(zip(exact_lists.items[user].tolist(), range(exact_lists.items.shape[1]), strict=True))
        for place, item in enumerate(lists.items[user].tolist()):
            if not named[user, place]:
                continue
            assert item not in gone and item not in {i for i, _ in events[user]}
            parts = {name: part[user, place] for name, part in lists.contributions.items()}
            assert sum(parts.values()) == pytest.approx(lists.scores[user, place], abs=1e-4)
            if item in own and listed[user, own[item]]:
                for name, part in parts.items():
                    assert part == pytest.approx(exact_lists.contributions[name][user, own[item]], rel=1e-3, abs=1e-4)
        assert len(set(lists.items[user][named[user]].tolist())) == named[user].sum()


def clustered(n: int, dimensions: int, seed: int) -> F32:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((40, dimensions))
    vectors = centres[random.integers(0, 40, n)] + 0.5 * random.standard_normal((n, dimensions))
    return (vectors * random.exponential(size=(n, 1))).astype(np.float32)


def test_an_index_that_scans_whatever_may_hold_something_is_exact() -> None:
    vectors, queries = clustered(30_000, 8, 1), clustered(70, 8, 2)
    index = VectorIndex(vectors)
    assert index.n_lists > 30
    found = index.search(queries, 50, exact=True)
    exact = np.sort(queries @ vectors.T, axis=1)[:, ::-1][:, :50]
    np.testing.assert_allclose(found.scores, exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(index.scores(queries, found.rows), found.scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.sort(index.numbers), np.arange(30_000))
    np.testing.assert_array_equal(index.vectors[:-1], vectors[index.numbers])
    assert not index.scores(queries, np.full((70, 3), -1)).any()


def test_the_index_finds_nearly_all_as_it_is_set() -> None:
    vectors, queries = clustered(40_000, 32, 3), clustered(60, 32, 4)
    found = VectorIndex(vectors)
    numbers = found.numbers[found.search(queries, 100).rows]
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :100]
    assert np.mean([len(np.intersect1d(a, b)) / 100 for a, b in zip(numbers, exact, strict=True)]) > 0.98


@given(st.integers(0, 40), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_an_index_of_few_vectors_is_exact_and_pads(n: int, size: int) -> None:
    vectors, queries = clustered(n, 4, n), clustered(3, 4, 99)
    found = VectorIndex(vectors).search(queries, size)
    assert found.rows.shape == (3, size)
    assert ((found.rows >= 0).sum(axis=1) == min(n, size)).all()
    exact = np.sort(queries @ vectors.T, axis=1)[:, ::-1][:, : min(n, size)]
    np.testing.assert_allclose(found.scores[:, : min(n, size)], exact, rtol=1e-4, atol=1e-4)


def test_an_item_that_came_after_the_model_and_the_index_is_listed() -> None:
    engine = engine_of(10, [[(1, 32), (5, 32)]])
    slots = np.array([slot_of(engine, 0)])
    engine.recommend(slots, engine.encode(slots), NOW_S + 100)
    engine.describe_item(N_ITEMS + 3, ItemContent(["c1", "d1"], {"brand": "b1"}, published_s=NOW_S))
    lists = engine.recommend(slots, engine.encode(slots), NOW_S + 100)
    assert N_ITEMS + 3 in lists.items[0].tolist()


def test_a_catalogue_grown_large_lists_as_one_that_was_large() -> None:
    events = [[(1, 32), (5, 32), (9, 32)], [(2, 32)]]
    grown, large = engine_of(N_ITEMS + 10, events, embedded=True), engine_of(10, events, embedded=True)
    neighbours = {number: large.neighbours.rows(np.array([number]), N_ITEMS)[0] for number in range(N_ITEMS)}
    for engine in (grown, large):
        engine.ensure_items(N_ITEMS + 50)
    grown.neighbours.hold_all()
    for number, row in neighbours.items():
        grown.neighbours.set_row(number, np.flatnonzero(row).astype(np.uint32), row[row > 0], int(large.neighbours.epochs[number]))
    made = []
    for engine in (grown, large):
        slots = np.array([slot_of(engine, i) for i in range(2)])
        made.append(engine.recommend(slots, engine.encode(slots), NOW_S + 3_000))
    np.testing.assert_allclose(made[0].scores, made[1].scores, rtol=1e-4)
    np.testing.assert_array_equal(made[0].items, made[1].items)


def test_a_prepared_model_is_served_by_the_index_that_was_prepared() -> None:
    engine = engine_of(10, [[(1, 32)]])
    model = Factors("ials", "identity", clustered(30, 4, 1))
    engine.prepare(model)  # type: ignore[arg-type]
    index = index_of(model)  # type: ignore[arg-type]
    engine.serve("ials", "v2", model, {f"i{n}": n for n in range(30)})  # type: ignore[arg-type]
    indexed = engine.models["ials"].indexed
    assert indexed is not None and indexed.index is index


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), max_size=60))
@settings(max_examples=40, deadline=None)
def test_kinds_have_the_features_of_the_matrix(described: list[tuple[int, bool, bool]]) -> None:
    dense, compact = Catalogue(), Catalogue()
    compact.compact()
    for number, embedded, removed in described:
        for catalogue in (dense, compact):
            catalogue.put(number, None if removed else content(number, embedded))
    kinds = compact.kinds
    assert kinds is not None
    wide = np.arange(31)
    for catalogue in (dense, compact):
        catalogue.grow(31)
    compact.refresh_kinds(lambda: np.zeros(31, np.float32), NOW_S)
    of_kinds, of_matrix = kinds.features(kinds.of[wide].astype(np.int64), compact.width), dense.features[:31]
    np.testing.assert_allclose(of_kinds @ of_kinds.T, of_matrix @ of_matrix.T, atol=1e-5)  # the order of columns may differ
    assert compact.changes == dense.changes


def test_items_that_nobody_described_are_listed_by_what_users_did() -> None:
    engine = Engine(EngineConfig(list_size=5, exact_items=2))
    engine.ensure_items(9)
    engine.neighbours.hold_all()
    engine.users.load(dict.fromkeys(("v", "u", "new")))
    for user, items in (("v", [0, 7]), ("u", [0])):
        slots = [engine.users.slot(user) or 0]
        batch = batch_of(slots, [len(items)], items, [NOW_S] * len(items), [32] * len(items))
        learn(engine, batch)
    slots = np.array([engine.users.slot(user) or 0 for user in ("u", "new")])
    lists = engine.recommend(slots, {}, NOW_S)
    assert lists.items[0, 0] == 7 and lists.because[0, 0].tolist() == [0, -1] and 0 not in lists.items[0].tolist()
    assert lists.items[1, 0] == 0 and (lists.because[1] == -1).all()


@pytest.mark.parametrize("exact_items", [10_000, 10])
def test_whoever_has_seen_everything_is_listed_nothing(exact_items: int) -> None:
    engine = engine_of(exact_items, [[(number, 32) for number in range(N_ITEMS)]], history_length=5, seen_length=N_ITEMS)
    slots = np.array([slot_of(engine, 0)])
    lists = engine.recommend(slots, engine.encode(slots), NOW_S + 3_000)
    assert not np.isfinite(lists.scores).any() and (lists.because == -1).all()


@given(st.integers(1, 300), st.integers(1, 9), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_a_heap_keeps_the_best_that_are_above_the_least(n: int, size: int, seed: int) -> None:
    products = np.random.default_rng(seed).integers(-9, 9, n).astype(np.float32)
    scores, rows = np.full((1, size), -np.inf, np.float32), np.full((1, size), -1, np.int64)
    scan_kernel.keep(products, n, 100, np.float32(-2), scores[0], rows[0])
    scan_kernel.in_order(scores, rows)
    expected = np.sort(products[products > -2])[::-1][:size]
    assert scores[0][: len(expected)].tolist() == expected.tolist() and not np.isfinite(scores[0][len(expected) :]).any()
    kept = rows[0][rows[0] >= 0]
    assert len(set(kept.tolist())) == len(expected) and (products[kept - 100] == expected).all()


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 6), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_list_is_scanned_alike_for_few_queries_and_for_many(n: int, dimensions: int, n_queries: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors, queries = (random.standard_normal((count, dimensions)).astype(np.float32) for count in (n, n_queries))
    scores, rows = np.full((n_queries, n), -np.inf, np.float32), np.full((n_queries, n), -1, np.int64)
    ends, pairs, least = np.array([n]), np.array([n_queries]), np.full(n_queries, -np.inf, np.float32)
    scan_kernel.scan(vectors, ends, queries, pairs, np.arange(n_queries), least, scores, rows)
    scan_kernel.in_order(scores, rows)
    np.testing.assert_allclose(scores, np.sort(queries @ vectors.T, axis=1)[:, ::-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(n), (n_queries, 1)))


@pytest.mark.parametrize("exact_items", [10_000, 10])
def test_lists_made_in_several_threads_are_those_made_in_one(exact_items: int) -> None:
    random = np.random.default_rng(8)
    events = [[(int(n), 32) for n in random.integers(0, N_ITEMS, 12)] for _ in range(64)]
    one, several = engine_of(exact_items, events), engine_of(exact_items, events)
    slots = np.array([slot_of(one, i) for i in range(len(events))])
    vectors = one.encode(slots)
    for engine in (one, several):
        engine.recommend(slots, vectors, NOW_S + 3_000)
        engine.describe_item(N_ITEMS - 1, content(0, False))  # so that there is something to work out again before the threads begin
    expected = one.recommend(slots, vectors, NOW_S + 3_000)
    shared = several.shared(NOW_S + 3_000)
    rows = [slice(start, start + 4) for start in range(0, len(slots), 4)]
    with ThreadPoolExecutor(4) as threads:
        parts = threads.map(lambda part: several.recommend(slots[part], {k: v[part] for k, v in vectors.items()}, shared), rows)
        lists = Lists.joined(list(parts))
    np.testing.assert_allclose(lists.scores, expected.scores, rtol=1e-4, atol=1e-6)
    assert (lists.items == expected.items).mean() > 0.99


def test_everything_is_compiled_before_a_worker_joins_its_group() -> None:
    compile_all()
    shown = learned, shown_kernel
    kernels = {
        f"{module.__name__}.{name}": kernel
        for module in (candidates_kernel, cooccurrence_kernel, models_kernel, content_kernel, exact_kernel, reasons, scan_kernel, *shown)
        for name, kernel in vars(module).items()
        if hasattr(kernel, "signatures") and kernel.__module__ == module.__name__
    }
    before = {name: list(kernel.signatures) for name, kernel in kernels.items()}
    for name in ("lists.candidates_kernel.distinct", "lists.exact_kernel.choose", "lists.reasons._strongest", "index.scan_kernel.scan"):
        assert len(before[f"recsys.{name}"]) == 1
    for exact_items, dense_items in ((10, 10_000), (10_000, 10_000), (10_000, 10)):
        for similarity in ("directed", "cosine", "llr"):
            reading = CooccurrenceReading(similarity=similarity)  # type: ignore[arg-type]
            engine = engine_of(exact_items, [[(1, 32), (5, 32)], []], dense_items=dense_items, reading=reading, exploration_slots=2)
            slots = np.array([slot_of(engine, i) for i in range(2)])
            engine.recommend(slots, engine.encode(slots), NOW_S + 100, preferred={1: ["c1"]})
    VectorIndex(clustered(9_000, 4, 1)).search(clustered(2, 4, 2), 5)
    for exact_items in (10, 10_000):
        engine = engine_of(exact_items, [[(1, 32), (5, 32)], []], shown_items=3)
        slots = np.array([slot_of(engine, i) for i in range(2)])
        engine.use_ranker(stump("shown.age", 0.0, 1.0, 0.0))
        engine.recommend(slots, engine.encode(slots), NOW_S + 100)
    assert {name: list(kernel.signatures) for name, kernel in kernels.items()} == before
