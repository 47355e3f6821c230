"""Measure how fast lists are made over large catalogues, and how close they come to lists that score every item.

Examples:
    python -m benchmarks.lists
    python -m benchmarks.lists --items 1000000 --users 512 --json
    python -m benchmarks.lists --full

One process and one thread, with torch and BLAS limited to one; only `lists_per_s_in_2_threads` divides the users among threads as a worker
does (`stream.list_threads`). A million items take minutes. For each size, on a generated (seeded) state:

* index: queries/s and recall@100 of `VectorIndex` for an iALS-like and a SASRec-like model. The baseline is the exact top 100 from the
  matrix product over all items in blocks; that product without the top 100 is the limit of any exact search on this processor.
* homepage: the same lists with a generated ranker, rules of three actions, freshness, calibration, DPP, a cap, and reasons
  (`homepage_lists_per_s`).
* ranker: the exact lists with a learned ranker of 120 trees of 15 leaves, generated too, beside those without in the same run
  (`exact_ranker_lists_per_s`, `…_per_cpu_s`).
* lists: `Engine.recommend` with every source on and user vectors given (`benchmarks.ingest` measures encoding), from candidates
  (`lists_per_s`) and over all items (`exact_lists_per_s`); `…_per_cpu_s` counts processor seconds, which other work on the machine affects
  less. `overlap_at_20` is the share of the exact list's items that the list from candidates has.

The vectors reproduce measurements of the models on MovieLens 1M: spectrum, length against popularity, cosine of the nearest item, and the
popularity of the best items. iALS-like: clusters and noise in a slowly falling spectrum, length ∝ (1 + popularity)^0.64 up to the highest
popularity of MovieLens, constant beyond. SASRec-like: the same directions and one dimension for popularity; it pools the history instead of
running the network. Content, neighbours and histories follow the clusters. Real models of a million items may be easier or harder.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
if __name__ == "__main__" and any(os.environ.get(name) != value for name, value in _ONE_THREAD.items()):
    os.execve(sys.executable, [sys.executable, "-m", "benchmarks.lists", *sys.argv[1:]], {**os.environ, **_ONE_THREAD})

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from benchmarks.figures import Spread, benchmark_parser, emit, resident_bytes  # noqa: E402
from benchmarks.trees import generated_ranker  # noqa: E402
from recsys.catalogue.items import Catalogue, ItemContent  # noqa: E402
from recsys.engine import Engine, EngineConfig, Lists  # noqa: E402
from recsys.index.vectors import VectorIndex  # noqa: E402
from recsys.lists.policies.options import CalibrationOptions, Cap, DiversityOptions, FreshnessOptions, PolicyOptions  # noqa: E402
from recsys.models.base import F32, Histories, Model  # noqa: E402
from recsys.models.ials.model import IALSConfig, IALSModel  # noqa: E402
from recsys.rules.rule import Rule, RuleSet  # noqa: E402
from recsys.state.half_lives import ALL_TIME, LIVE_SPANS, MOST_GROWTH, WINDOWS_S  # noqa: E402
from recsys.state.item_row import WEIGHT_ONE  # noqa: E402
from recsys.state.neighbours import SparseNeighbours  # noqa: E402
from tests.builders import batch_of  # noqa: E402
from tests.histories import apply  # noqa: E402
from workers.stream.list_maker import LISTED_TOGETHER  # noqa: E402
from workers.stream.warm_up import compile_all  # noqa: E402

I64 = NDArray[np.int64]
NOW_S = 1_790_000_000
DAY_S = 86_400
NEVER = 1 << 40
THREADS = 2
SEED = 20
HISTORY = 15
K = 100
EXACT_SCORES = 40_000_000
"""Upper bound on scores per source in an exact run: 40 users at a million items."""
N_CATEGORIES, N_BRANDS = 40, 60
HOMEPAGE = EngineConfig(
    exact_items=0,
    reasons=True,
    policy=PolicyOptions(
        freshness=FreshnessOptions(0.2, 7 * DAY_S),
        calibration=CalibrationOptions(0.1),
        diversity=DiversityOptions("dpp", 0.18),
        caps=(Cap("category", 6, 10),),
    ),
    rules=RuleSet(
        (
            Rule("not this category", '"c7" in item.categories', "deny"),
            Rule("own brand", 'item.brand == "5"', "boost", 0.5),
            Rule("old ones", "item.age_days > 3650.0", "bury", 0.5),
        )
    ),
)
"""Rules of three actions, every stage, and reasons."""


@dataclass(frozen=True, slots=True)
class World:
    """Generated items, each with a cluster, a popularity and a direction, and histories of users.

    Shapes: of, popularity (N,); directions (N, D); histories (U, HISTORY), item numbers, oldest first.
    """

    of: I64
    popularity: F32
    directions: F32
    histories: I64

    @classmethod
    def made(cls, n_items: int, dimensions: int, n_users: int) -> World:
        random = np.random.default_rng(SEED)
        spectrum = (1.0 + np.arange(dimensions)) ** -0.2
        spectrum = (spectrum / np.linalg.norm(spectrum)).astype(np.float32)
        n_clusters = int(2 * n_items**0.5)
        centres = random.standard_normal((n_clusters, dimensions), dtype=np.float32) * spectrum
        share = (1.0 + np.arange(n_clusters)) ** -0.5
        of = random.choice(n_clusters, n_items, p=share / share.sum())
        directions = centres[of] + np.float32(0.65) * random.standard_normal((n_items, dimensions), dtype=np.float32) * spectrum
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        popularity = (100 * n_items / np.log(n_items / 50) / (random.permutation(n_items) + 50.0)).astype(np.float32)
        return cls(of, popularity, directions, _histories(of, popularity, n_users, random))

    def ials_like(self) -> F32:
        """Return item vectors (N, D) that behave like an iALS model's."""
        random = np.random.default_rng(SEED + 1)
        vectors = self.directions.copy()
        vectors[:, -1] += 0.27
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        lengths = 0.05 * (1 + np.minimum(self.popularity, 1_500)) ** 0.64 * np.exp(0.3 * random.standard_normal(len(vectors)))
        return vectors * lengths.astype(np.float32)[:, None]

    def sasrec_like(self) -> F32:
        """Return item vectors (N, D) that behave like a SASRec model's: the last dimension is popularity."""
        random = np.random.default_rng(SEED + 2)
        vectors = self.directions * np.exp(0.25 * random.standard_normal((len(self.of), 1))).astype(np.float32)
        logs = np.log1p(self.popularity)
        vectors[:, -1] += (-1.55 + 0.905 * (logs - logs.mean()) / logs.std()).astype(np.float32)
        return vectors

    def content(self) -> list[ItemContent]:
        """Return each item's content. Items of a cluster are similar."""
        random = np.random.default_rng(SEED + 3)
        n = len(self.of)
        own = random.integers(0, N_CATEGORIES, (int(self.of.max()) + 1, 2))
        brands = (7 * self.of + random.integers(0, 4, n)) % N_BRANDS
        ages = random.exponential(1_500, n)
        kept: dict[tuple[int, int, int, int], ItemContent] = {}
        found = []
        for a, b, brand, age in zip(own[self.of, 0].tolist(), own[self.of, 1].tolist(), brands.tolist(), ages.tolist(), strict=True):
            key = (a, b, brand, int(age))
            if key not in kept:
                kept[key] = ItemContent([f"c{a}", f"c{b}"], {"brand": str(brand)}, published_s=NOW_S - int(age) * DAY_S)
            found.append(kept[key])
        return found

    def neighbour_rows(self, numbers: I64) -> dict[int, tuple[NDArray[np.uint32], F32]]:
        """Return 20 to 1,000 neighbours of each item, more for popular items; mostly from its own cluster, popular ones more often."""
        random = np.random.default_rng(SEED + 4)
        order = np.argsort(self.of, kind="stable")
        ends = np.searchsorted(self.of[order], np.arange(int(self.of.max()) + 2))
        cumulative = np.cumsum(self.popularity / self.popularity.sum())
        rows = {}
        for number in numbers.tolist():
            size = int(np.clip(self.popularity[number], 20, 1_000))
            inside = order[random.integers(ends[self.of[number]], ends[self.of[number] + 1], 2 * size)]
            inside = inside[np.argsort(-self.popularity[inside])][:size]
            outside = np.minimum(np.searchsorted(cumulative, random.random(size // 4)), len(order) - 1)
            members, counts = np.unique(np.concatenate((inside, outside)), return_counts=True)
            rows[number] = (members.astype(np.uint32), (counts * random.exponential(1.0, len(members))).astype(np.float32))
        return rows


def _histories(of: I64, popularity: F32, n_users: int, random: np.random.Generator) -> I64:
    """Draw histories (U, HISTORY): items of three clusters in turn, popular ones more often."""
    order = np.argsort(of, kind="stable")
    ends = np.searchsorted(of[order], np.arange(int(of.max()) + 2))
    cumulative = np.cumsum(popularity / popularity.sum())
    found = np.zeros((n_users, HISTORY), np.int64)
    for user in range(n_users):
        clusters = of[np.minimum(np.searchsorted(cumulative, random.random(3)), len(of) - 1)]
        for place in range(HISTORY):
            cluster = clusters[place % 3]
            drawn = order[random.integers(ends[cluster], ends[cluster + 1], 8)]
            found[user, place] = drawn[np.argmax(popularity[drawn] * random.exponential(size=8))]
    return found


class PooledSequence:
    """A substitute for SASRec: logits from the pooled directions of the newest preferences, and a share of popularity."""

    kind: ClassVar[str] = "sasrec"
    link: ClassVar[Literal["identity", "softmax"]] = "softmax"

    def __init__(self, item_ids: list[str], item_vectors: F32) -> None:
        self.item_ids, self.item_vectors, self.history_length = item_ids, item_vectors, 50

    def encode(self, histories: Histories) -> F32:
        read = (histories.items >= 0) & (histories.weights > 0)
        newer: I64 = np.cumsum(read[:, ::-1], axis=1)[:, ::-1] - read
        weights = np.where(read, 0.8**newer, 0).astype(np.float32)
        pooled = np.einsum("ul,uld->ud", weights, self.item_vectors[np.maximum(histories.items, 0)])
        pooled[:, -1] = 0
        length = np.linalg.norm(pooled, axis=1, keepdims=True)
        pooled *= 0.93 / np.where(length > 0, length, 1)
        pooled[:, -1] = np.where(length[:, 0] > 0, 0.3, 0)
        directions: F32 = (8 * pooled).astype(np.float32)
        return directions

    @property
    def config(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"item_vectors": self.item_vectors}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        return cls(item_ids, np.asarray(tensors["item_vectors"], np.float32))


def exact_search(queries: F32, vectors: F32, *, top: int) -> I64:
    """Return the items of each query's `top` largest inner products, by matrix products in blocks; `top` 0 computes only the products."""
    asked, held = torch.from_numpy(queries), torch.from_numpy(vectors)
    values, items = torch.full((len(queries), top), -torch.inf), torch.zeros((len(queries), top), dtype=torch.int64)
    for start in range(0, len(vectors), step := 8_192):
        product = asked @ held[start : start + step].T
        if top:
            best, places = product.topk(min(top, product.shape[1]), dim=1)
            values, order = torch.cat((values, best), dim=1).topk(top, dim=1)
            items = torch.cat((items, places + start), dim=1).gather(1, order)
    return items.numpy()


def index_figures(queries: F32, vectors: F32, repeats: int) -> dict[str, Any]:
    """Measure one index over these vectors."""
    started = time.perf_counter()
    index = VectorIndex(vectors)
    build_s = time.perf_counter() - started
    n_exact = max(8, min(len(queries), 4 * EXACT_SCORES // len(vectors)))
    index.search(queries, K)
    few = queries[:n_exact]
    truth = exact_search(few, vectors, top=K)
    found = index.numbers[index.search(few, K).rows]
    return {
        "n_lists": index.n_lists,
        "build_s": round(build_s, 2),
        "bytes_per_item": round(index.nbytes / len(vectors), 1),
        "queries_per_s": _rates(len(queries), repeats, lambda: index.search(queries, K)),
        "single_queries_per_s": _rates(32, 1, lambda: [index.search(queries[i : i + 1], K) for i in range(32)]),
        "exact_queries_per_s": _rates(n_exact, 1, lambda: exact_search(few, vectors, top=K)),
        "product_only_queries_per_s": _rates(n_exact, 1, lambda: exact_search(few, vectors, top=0)),
        "recall_at_100": round(float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, truth, strict=True)])), 4),
    }


def _rates(n: int, repeats: int, run: Any, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    def once() -> float:
        started = clock()
        run()
        return n / (clock() - started)

    return [round(value, 1) for value in Spread.of(once, repeats).values]


@dataclass(frozen=True, slots=True)
class Engines:
    """Engines with the same state: one lists from `candidates`, one from them with rules and stages (`HOMEPAGE`), one scores every item."""

    candidates: Engine
    homepage: Engine
    exact: Engine


def engines(world: World, models: Sequence[Model], content: Sequence[ItemContent]) -> tuple[Engines, dict[str, float]]:
    """Return the engines, and the seconds that each step took."""
    n = len(world.of)
    took: dict[str, float] = {}
    candidates, homepage, exact = Engine(EngineConfig(exact_items=0)), Engine(HOMEPAGE), Engine(EngineConfig(exact_items=NEVER))
    candidates.catalogue = homepage.catalogue  # which holds the values that rules and caps read
    started = time.perf_counter()
    candidates.ensure_items(n)
    for number, described in enumerate(content):
        candidates.describe_item(number, described)
    took["describe_s"] = time.perf_counter() - started
    _fill(candidates, world)
    exact.ensure_items(n)
    exact.users, exact.popularity = candidates.users, candidates.popularity
    candidates.catalogue.refresh_kinds(lambda: candidates.popularity.trending()[:n], NOW_S)
    exact.catalogue = _with_matrix(candidates.catalogue)
    rows = world.neighbour_rows(np.unique(world.histories))
    for engine in (candidates, exact):
        for number, row in rows.items():
            engine.neighbours.set_row(number, *row, 0)
    item_numbers = {item_id: number for number, item_id in enumerate(models[0].item_ids)}
    for model in models:
        started = time.perf_counter()
        candidates.prepare(model)
        took[f"prepare_{model.kind}_s"] = time.perf_counter() - started
        started = time.perf_counter()
        candidates.serve(model.kind, "v1", model, item_numbers)
        took[f"serve_{model.kind}_s"] = time.perf_counter() - started
        exact.serve(model.kind, "v1", model, item_numbers)
    for part in ("users", "popularity", "neighbours", "models", "is_large", "newest_epoch"):
        setattr(homepage, part, getattr(candidates, part))
    homepage.use_ranker(generated_ranker(tuple(homepage.models)))
    return Engines(candidates, homepage, exact), took


def _fill(engine: Engine, world: World) -> None:
    """Add histories and popularity to the engine."""
    n_users = len(world.histories)
    engine.users.load({f"u{user}": None for user in range(n_users)})
    slots = np.array([engine.users.slot(f"u{user}") for user in range(n_users)], np.int64)
    times = NOW_S - 60 * np.arange(HISTORY, 0, -1)
    touched = world.histories.ravel()
    apply(engine.users, batch_of(slots, [HISTORY] * n_users, touched, np.tile(times, n_users), np.full(len(touched), 32)))
    items = np.arange(len(world.of), dtype=np.uint32)
    engine.popularity.add(ALL_TIME, 0, items, (world.popularity * WEIGHT_ONE).astype(np.int64))
    engine.advance_time(NOW_S)
    random = np.random.default_rng(SEED + 5)
    for window, span_s in WINDOWS_S.items():
        for back in range(LIVE_SPANS):
            some = np.unique(random.choice(items, 200_000, p=world.popularity / world.popularity.sum()))
            engine.popularity.add(window, NOW_S // span_s - back, some, random.integers(WEIGHT_ONE, MOST_GROWTH * WEIGHT_ONE, len(some)))


def _with_matrix(catalogue: Catalogue) -> Catalogue:
    """Return the same catalogue with its features as a matrix over the items."""
    kinds, n = catalogue.kinds, catalogue.n_items
    assert kinds is not None
    dense = Catalogue(n)
    dense.grow(n)
    for name in ("available", "published_s", "expires_s"):
        setattr(dense, name, getattr(catalogue, name)[:n].copy())
    of_kinds = kinds.features(np.arange(kinds.n_kinds), catalogue.width)
    dense._features, dense._width = of_kinds[kinds.of[:n]], catalogue.width
    dense.values, dense._places = catalogue.values, catalogue._places
    return dense


def list_figures(made: Engines, n_users: int, repeats: int) -> dict[str, Any]:
    """Measure the speed of the engines, and the share of the exact lists that those from candidates hold."""
    candidates, exact, n = made.candidates, made.exact, made.candidates.n_items
    slots = np.arange(n_users)
    slots = np.array([candidates.users.slot(f"u{user}") for user in slots.tolist()], np.int64)
    vectors = candidates.encode(slots)
    n_exact = max(8, min(n_users, EXACT_SCORES // n))

    def listed(engine: Engine, count: int) -> Lists:
        return engine.recommend(slots[:count], {kind: v[:count] for kind, v in vectors.items()}, NOW_S)

    def side_by_side(engine: Engine) -> None:
        """List in threads, as a worker with `stream.list_threads` does."""
        shared = engine.shared(NOW_S)
        parts = [slice(start, start + LISTED_TOGETHER) for start in range(0, n_users, LISTED_TOGETHER)]

        def part_of(rows: slice) -> Lists:
            return engine.recommend(slots[rows], {kind: v[rows] for kind, v in vectors.items()}, shared)

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(part_of, parts))

    listed(made.homepage, n_users)
    listed(candidates, n_users)
    lists, best = listed(candidates, n_exact), listed(exact, n_exact)
    shares = [len(np.intersect1d(a, b)) / len(b) for a, b in zip(lists.items, best.items, strict=True)]
    worst = np.abs(lists.scores / best.scores - 1)
    small = {f"lists_per_s_in_blocks_of_{size}": _in_blocks(listed, candidates, size) for size in (1, 32) if size < n_users}
    return {
        "lists_per_s": _rates(n_users, repeats, lambda: listed(candidates, n_users)),
        "lists_per_cpu_s": _rates(n_users, repeats, lambda: listed(candidates, n_users), time.process_time),
        f"lists_per_s_in_{THREADS}_threads": _rates(n_users, repeats, lambda: side_by_side(candidates)),
        "homepage_lists_per_s": _rates(n_users, repeats, lambda: listed(made.homepage, n_users)),
        f"homepage_lists_per_s_in_{THREADS}_threads": _rates(n_users, repeats, lambda: side_by_side(made.homepage)),
        **small,
        "exact_lists_per_s": _rates(n_exact, 1, lambda: listed(exact, n_exact)),
        "exact_lists_per_cpu_s": _rates(n_exact, 1, lambda: listed(exact, n_exact), time.process_time),
        **_ranker_figures(exact, lambda: listed(exact, n_exact), n_exact),
        "trending_after_add_ms": round(_trending_ms(candidates), 3),
        "overlap_at_20": round(float(np.mean(shares)), 4),
        "overlap_at_20_worst": round(float(np.min(shares)), 4),
        "score_difference_median": round(float(np.median(worst)), 6),
        "n_lists_compared": n_exact,
        "sources": {name: round(float((part > 0).mean()), 3) for name, part in lists.contributions.items()},
    }


def _ranker_figures(engine: Engine, listed: Callable[[], Lists], n_users: int) -> dict[str, Any]:
    """Measure exact lists with a learned ranker."""
    engine.use_ranker(generated_ranker(tuple(engine.models)))
    listed()
    found = {
        "exact_ranker_lists_per_s": _rates(n_users, 1, listed),
        "exact_ranker_lists_per_cpu_s": _rates(n_users, 1, listed, time.process_time),
    }
    engine.use_ranker(None)
    return found


def _trending_ms(engine: Engine) -> float:
    """Return the milliseconds to count a batch of 500 items and find the trending ones: median of 20."""
    popularity, n = engine.popularity, engine.n_items
    random, took = np.random.default_rng(SEED + 6), []
    for _ in range(20):
        items = np.unique(random.integers(0, n, 500)).astype(np.uint32)
        started = time.perf_counter()
        for window, span_s in WINDOWS_S.items():
            popularity.add(window, NOW_S // span_s, items, np.full(len(items), WEIGHT_ONE))
        popularity.tops(104)
        took.append(1_000 * (time.perf_counter() - started))
    return float(np.median(took))


def _in_blocks(listed: Any, engine: Engine, size: int) -> list[float]:
    return _rates(8 * size, 1, lambda: [listed(engine, size) for _ in range(8)])


def figures(n_items: int, dimensions: int, n_users: int, repeats: int) -> dict[str, Any]:
    """Return all figures of one size."""
    before = resident_bytes(os.getpid())
    world = World.made(n_items, dimensions, n_users)
    item_ids = [f"i{number}" for number in range(n_items)]
    models: list[Model] = [
        IALSModel(IALSConfig(factors=dimensions), item_ids, world.ials_like()),
        PooledSequence(item_ids, world.sasrec_like()),
    ]
    made, took = engines(world, models, world.content())
    candidates = made.candidates
    kinds = candidates.catalogue.kinds
    assert kinds is not None and isinstance(candidates.neighbours, SparseNeighbours)
    slots = np.array([candidates.users.slot(f"u{user}") for user in range(n_users)], np.int64)
    vectors = candidates.encode(slots)
    found = {
        "n_items": n_items,
        "dimensions": dimensions,
        "n_users": n_users,
        "index": {model.kind: index_figures(vectors[model.kind], model.item_vectors, repeats) for model in models},
        "build_s": {name: round(seconds, 2) for name, seconds in took.items()},
        "n_kinds": kinds.n_kinds,
        "content_bytes_per_item": round(kinds.nbytes / n_items, 1),
        **list_figures(made, n_users, repeats),
        "resident_bytes_added": resident_bytes(os.getpid()) - before,
    }
    return found


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--items", type=int, nargs="+", help="catalogue sizes (default: 4000 100000)")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[64], help="dimensions of the model vectors (default: 64)")
    parser.add_argument("--users", type=int, default=1_024, help="users to make lists for (default: 1,024)")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats; the median counts (default: 3)")
    parser.add_argument("--full", action="store_true", help="4,000 to a million items in 64, 128 and 256 dimensions; 15 minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compile_all()
    sizes = arguments.items or ([4_000, 32_000, 100_000, 1_000_000] if arguments.full else [4_000, 100_000])
    dimensions = [64, 128, 256] if arguments.full else arguments.dimensions
    cases = [figures(n, d, arguments.users, arguments.repeats) for n in sizes for d in dimensions]
    rows: list[Sequence[object]] = []
    for case in cases:
        size = f"{case['n_items']:,} × {case['dimensions']}"
        for kind, index in case["index"].items():
            speed = (Spread(tuple(index[name])) for name in ("queries_per_s", "exact_queries_per_s"))
            rows.append((f"{size}: index of {kind}", *speed, index["recall_at_100"], index["build_s"]))
        rows.append((f"{size}: lists with rules and stages", Spread(tuple(case["homepage_lists_per_s"])), "", "", ""))
        for label, suffix in (("lists", "s"), ("lists, per processor second", "cpu_s")):
            speed = (Spread(tuple(case[name])) for name in (f"lists_per_{suffix}", f"exact_lists_per_{suffix}"))
            rows.append((f"{size}: {label}", *speed, case["overlap_at_20"], round(sum(case["build_s"].values()), 1)))
    columns = ("measured", "per s", "exact, per s", "recall@100, overlap@20", "build s")
    emit("lists", "one thread", columns, rows, {"seed": SEED, "threads": torch.get_num_threads(), "cases": cases}, as_json=arguments.json)


if __name__ == "__main__":
    main()
