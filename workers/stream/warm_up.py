"""Compiles kernels before they are needed: the first time on a machine takes a minute, in which a worker would send no heartbeats.

python -m workers.stream.warm_up
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from recsys.catalogue.items import ItemContent
from recsys.engine import EXACT_ITEMS, SOURCE_WEIGHTS, Engine, EngineConfig
from recsys.jit import compile_in_turns
from recsys.lists import path_kernel
from recsys.lists.learned.feature_names import names_of
from recsys.lists.learned.forest import Forest
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.policies import caps_kernel
from recsys.lists.policies.options import (
    NO_POLICY,
    CalibrationOptions,
    Cap,
    DiversityOptions,
    FreshnessOptions,
    PolicyOptions,
)
from recsys.lists.row_options import RowKind, RowSpec
from recsys.lists.rule_kernel import pin
from recsys.lists.shown import FrequencyCap
from recsys.models.base import Histories, Model
from recsys.models.ials.config import IALSConfig
from recsys.models.sasrec.config import SASRecConfig
from recsys.state.bought import BoughtWindows
from recsys.state.event_weights import WeightTable, event_weights
from recsys.state.interactions import Interactions
from recsys.state.shown import ShownEvents
from workers.kafka.batch_kernel import most_headers
from workers.kafka.placement import partitions_of
from workers.lists.encoding import ItemIds, ListHead, encode_lists
from workers.lists.row_encoding import with_rows
from workers.runtime.compile_turns import turn

if TYPE_CHECKING:
    from recsys.models.sasrec.model import SASRecModel  # torch takes more than a second

log = logging.getLogger(__name__)

SLOW_S = 1.0
_CATALOGUES = EXACT_ITEMS, 0
"""Largest small catalogue of an engine with a small one, and with a large one."""
_ITEMS = ["a", "b"]
_STAGES = FreshnessOptions(1.0, 1.0), CalibrationOptions(0.5)
EVERY_POLICY = (
    PolicyOptions(1, *_STAGES, DiversityOptions("mmr", 0.5), (Cap("category", 1, 2),), 0.1),
    PolicyOptions(1, *_STAGES, DiversityOptions("dpp", 0.5)),
)
"""Policies that use every stage."""
_KINDS: tuple[RowKind, ...] = ("for_you", "because", "popular_now", "new_in", "again", "category")
EVERY_ROW = (*(RowSpec(kind, 1, category="c") for kind in _KINDS), RowSpec("new_in", 1))
"""A row of each kind."""


def compile_all() -> float:
    """Compile the kernels of lists, with all policies and rows, of models and of rankers; return the seconds that it took. Cached ones take
    a tenth of a second."""
    return compile_every_list() + compile_models() + compile_ranker()


def compile_every_list() -> float:
    """Compile the kernels of lists with all policies and rows; return the seconds that it took."""
    return compile_lists(EVERY_POLICY, EVERY_ROW)


def compile_lists(policies: Sequence[PolicyOptions] = (NO_POLICY,), rows: tuple[RowSpec, ...] = ()) -> float:
    """Learn interactions and make a list by each of the `policies`, with `rows`, from all sources but models, in a small catalogue and in a
    large one; return the seconds that it took."""
    started = _start()
    log.info("loading compiled loops; the first time on a machine they are compiled, which can take a minute")
    for exact_items in _CATALOGUES:
        for policy in policies:
            _learn_and_list(exact_items, policy=policy, rows=rows)
    BoughtWindows(2).enter(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.bool_))
    partitions_of([b"u"], 1)
    most_headers(np.zeros(1, np.uint8), 1)
    one = np.zeros((1, 1), np.int64)
    pin(one, one, np.ones(1, np.int64), one, one.copy(), one.copy())
    caps_kernel.place(one, np.zeros((1, 1, 1, 1), np.int32), one[0], one[0], 1, 1, np.zeros(1, np.int32), one.copy(), one[0].copy())
    _count_impressions()
    event_weights(np.zeros(1, np.int8), np.zeros(1), WeightTable((1.0,), 0, 0.0, 1.0))
    return _seconds_since(started)


def compile_models() -> float:
    """Make a list from models of each kind too, in a small catalogue and in a large one; return the seconds that it took."""
    started = _start()
    from recsys.index.vectors import VectorIndex  # torch takes more than a second, and a worker without models does without it

    for exact_items in _CATALOGUES:
        _learn_and_list(exact_items, _models())
    one, places = np.ones((1, 1), np.float32), np.zeros(1, np.int64)
    path_kernel.strongest(np.arange(2), np.zeros(1, np.int32), one[0], one, one, places, places, places.copy())
    _sequence_model("hstu").encode(Histories(np.zeros((1, 1), np.int32), *np.ones((2, 1, 1), np.float32)))
    VectorIndex(np.ones((20, 1), np.float32), n_sampled=10).search(np.ones((1, 1), np.float32), 1)
    return _seconds_since(started)


def compile_ranker() -> float:
    """Make a list by a learned ranker too, in a small catalogue and in a large one; return the seconds that it took."""
    started = _start()
    sources = ("again",)
    for exact_items in _CATALOGUES:
        _learn_and_list(exact_items, ranker=LearnedRanker(_asking(len(names_of(sources)) - 1), sources))
    return _seconds_since(started)


def _asking(feature: int) -> Forest:
    """Return a tree with one comparison."""
    below, above, root = (np.array(one, np.int32) for one in ([1, -1, -1], [2, -1, -1], [0]))
    return Forest(np.array([feature, 0, 0], np.int32), np.zeros(3, np.float32), below, above, np.zeros(3, np.float32), root)


def _start() -> float:
    """Have processes that compile at the same time take turns, and return what the clock says."""
    compile_in_turns(turn)
    return time.perf_counter()


def _seconds_since(started: float) -> float:
    seconds = time.perf_counter() - started
    if seconds > SLOW_S:
        log.info("compiled in %.1f s", seconds)
    return seconds


def _learn_and_list(
    exact_items: int,
    models: Sequence[Model] = (),
    policy: PolicyOptions = NO_POLICY,
    rows: tuple[RowSpec, ...] = (),
    ranker: LearnedRanker | None = None,
) -> None:
    """Learn two items chosen by one user, and make that user's list."""
    weights = {**SOURCE_WEIGHTS, "again": 1.0}
    shown_items = 0 if ranker is None else 1
    config = EngineConfig(exact_items=exact_items, source_weights=weights, policy=policy, rows=rows, reasons=True, shown_items=shown_items)
    engine = Engine(config)
    for number in range(len(_ITEMS)):
        engine.describe_item(number, ItemContent(["c"]))
    engine.neighbours.hold_all()
    engine.users.load({"u": None})
    slots = np.array([engine.users.slot("u")], np.int64)
    numbers, at_s, liked, places = np.arange(2, dtype=np.uint32), np.zeros(2, np.uint32), np.full(2, 32, np.int8), np.zeros(2, np.int64)
    types = np.zeros(2, np.int8)
    batch = Interactions(slots, np.full(1, 2), numbers, at_s, liked, types, places.astype(np.int32), places)
    derived = engine.derive(batch)
    engine.learn_items(derived.delta(engine.config))
    engine.learn_histories(derived)
    engine.users.load({"u": engine.users.pack(slots.tolist())[0]})
    for model in models:
        engine.serve(model.kind, "", model, {name: number for number, name in enumerate(_ITEMS)})
    engine.use_ranker(ranker)
    lists = engine.recommend(slots, engine.encode(slots), 0, previous=np.zeros((1, 1), np.int64))
    ids = ItemIds(_ITEMS).texts()
    records = encode_lists([ListHead("u", 0, 0, None)], lists, ids, generated_ts_ms=0, model_versions={}, variant="")
    if lists.rows is not None:
        with_rows(records, lists.rows, ids, engine.category_names)


def _count_impressions() -> None:
    """Count an impression, read it back, and let its item rest on a list."""
    engine = Engine(EngineConfig(user_slots=1, shown_items=1, frequency_cap=FrequencyCap(1, 1)))
    engine.ensure_items(1)
    engine.users.load({"u": None})
    slots = np.array([engine.users.slot("u")], np.int64)
    one = np.zeros(1, np.uint32)
    engine.learn_shown(ShownEvents(slots, np.ones(1, np.int64), one, one, np.ones(1, np.bool_)))
    context = engine.shared(0)
    users = context.users(slots, {})
    users.shown_counts(np.zeros((1, 1), np.int64), context)
    users.off_lists(context)


def _models() -> tuple[Model, ...]:
    """Return a model of each kind, of the least size."""
    from recsys.models.biased_mf.config import BiasedMFConfig
    from recsys.models.biased_mf.model import BiasedMFModel
    from recsys.models.bpr.config import BPRConfig
    from recsys.models.bpr.model import BPRModel
    from recsys.models.comirec import interests
    from recsys.models.comirec.config import ComiRecConfig
    from recsys.models.comirec.model import ComiRecModel
    from recsys.models.ease.config import EASEConfig
    from recsys.models.ease.model import EASEModel
    from recsys.models.ials.model import IALSModel
    from recsys.models.isgd.config import ISGDConfig
    from recsys.models.isgd.model import ISGDModel
    from recsys.models.item2vec.config import Item2VecConfig
    from recsys.models.item2vec.model import Item2VecModel
    from recsys.models.item_values import ItemValues
    from recsys.models.knn.config import KNNConfig
    from recsys.models.knn.model import KNNModel
    from recsys.models.lightgcn.config import LightGCNConfig
    from recsys.models.lightgcn.model import LightGCNModel, Vectors
    from recsys.models.neighbour_rows import NeighbourRows
    from recsys.models.neumf.config import NeuMFConfig
    from recsys.models.neumf.model import NeuMFModel
    from recsys.models.neumf.pairs import Pairs
    from recsys.models.segments.config import SegmentsConfig
    from recsys.models.segments.model import SegmentsModel
    from recsys.models.segments.segment import Segment
    from recsys.models.two_tower.config import TwoTowerConfig
    from recsys.models.two_tower.model import TwoTowerModel
    from recsys.models.two_tower.towers import Content, Sizes, Towers
    from recsys.state.profiles import Attribute

    factors = np.ones((len(_ITEMS), 1), np.float32)
    segments = SegmentsModel(SegmentsConfig(), [Segment(Attribute("categorical", "a", "b"))], _ITEMS, np.ones((len(_ITEMS), 2), np.float32))
    rows = NeighbourRows.of_dense(np.ones((len(_ITEMS), len(_ITEMS)), np.float32), 1)
    neighbours = EASEModel(EASEConfig(), _ITEMS, rows)
    alike = KNNModel(KNNConfig(similarity="user_cosine"), _ITEMS, rows)
    graph = LightGCNModel(LightGCNConfig(factors=1), _ITEMS, Vectors(factors, factors, factors))
    said, sizes = Content(ItemValues.none(len(_ITEMS)), (), None), Sizes(len(_ITEMS), 0, 0, 0, 1, 1)
    towers = TwoTowerModel(TwoTowerConfig(factors=1, hidden=1), _ITEMS, Towers.random(sizes, 0), said)
    biased = np.ones((len(_ITEMS), 2), np.float32)
    factorisations = (
        IALSModel(IALSConfig(factors=1), _ITEMS, factors),
        BPRModel(BPRConfig(factors=1, fold_in_passes=1), _ITEMS, biased, np.ones(len(_ITEMS), np.int64)),
        BiasedMFModel(BiasedMFConfig(factors=1), _ITEMS, biased),
        ISGDModel(ISGDConfig(factors=1), _ITEMS, factors),
        Item2VecModel(Item2VecConfig(factors=1), _ITEMS, factors, factors),
    )
    several = interests.Interests.random(interests.Sizes(len(_ITEMS), 1, 2, 1), 0)
    comirec = ComiRecModel(ComiRecConfig(factors=1, interests=2, hidden=1), _ITEMS, several)
    pairs = NeuMFModel(NeuMFConfig(factors=1, hidden=2), _ITEMS, Pairs.random(len(_ITEMS), 1, 2, 0))
    return *factorisations, _sequence_model("sasrec"), segments, neighbours, alike, graph, towers, comirec, pairs


def _sequence_model(block: str) -> SASRecModel:
    """Return a network of the least size."""
    import torch

    from recsys.models.sasrec.model import SASRecModel
    from recsys.models.sasrec.network import Network

    network = Network(len(_ITEMS), least := SASRecConfig(block=block, factors=1, window=1))
    network.initialise(torch.Generator().manual_seed(0))
    return SASRecModel(least, _ITEMS, network)


def main() -> None:
    """Compile everything, in a process for each part where there are processors for them."""
    parts: tuple[Callable[[], float], ...] = compile_every_list, compile_models, compile_ranker
    n_processes = min(len(parts), os.cpu_count() or 1)
    if n_processes == 1:
        compile_all()
        return
    with ProcessPoolExecutor(n_processes, multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(part) for part in parts]:
            done.result()


if __name__ == "__main__":
    main()
