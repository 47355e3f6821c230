"""Compiles all kernels before a worker joins its group: the first time takes seconds in which no heartbeats are sent.

python -m workers.stream.warm_up
"""

from __future__ import annotations

import logging
import time

import numpy as np
import torch

from recsys.catalogue.items import ItemContent
from recsys.engine import EXACT_ITEMS, SOURCE_WEIGHTS, Engine, EngineConfig
from recsys.index.vectors import VectorIndex
from recsys.models.base import Model
from recsys.models.ials.model import IALSConfig, IALSModel
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.model import SASRecModel
from recsys.models.sasrec.network import Network
from recsys.state.event_weights import WeightTable, event_weights
from recsys.state.interactions import Interactions
from workers.kafka.batch_kernel import most_headers
from workers.kafka.placement import partitions_of
from workers.lists.encoding import ItemIds, ListHead, encode_lists

log = logging.getLogger(__name__)

SLOW_S = 1.0


def compile_all() -> float:
    """Learn interactions and make a list from all sources, in a small catalogue and in a large one; return the seconds that it took.

    Kernels are cached where that is possible; then it takes a tenth of a second.
    """
    started = time.perf_counter()
    log.info("loading compiled loops; the first time on a machine they are compiled, which can take a minute")
    for exact_items in (EXACT_ITEMS, 0):
        _learn_and_list(Engine(EngineConfig(exact_items=exact_items, source_weights={**SOURCE_WEIGHTS, "again": 1.0})))
    partitions_of([b"u"], 1)
    most_headers(np.zeros(1, np.uint8), 1)
    event_weights(np.zeros(1, np.int8), np.zeros(1), WeightTable((1.0,), 0, 0.0, 1.0))
    VectorIndex(np.ones((20, 1), np.float32), n_sampled=10).search(np.ones((1, 1), np.float32), 1)
    seconds = time.perf_counter() - started
    if seconds > SLOW_S:
        log.info("compiled in %.1f s", seconds)
    return seconds


def _learn_and_list(engine: Engine) -> None:
    """Learn two items chosen by one user, and make that user's list."""
    for number in range(2):
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
    for model in _models(names := ["a", "b"]):
        engine.serve(model.kind, "", model, {name: number for number, name in enumerate(names)})
    lists = engine.recommend(slots, engine.encode(slots), 0)
    encode_lists([ListHead("u", 0, 0, None)], lists, ItemIds(names).texts(), generated_ts_ms=0, model_versions={}, variant="")


def _models(names: list[str]) -> tuple[Model, ...]:
    """Return a model of each kind, of the least size."""
    network = Network(len(names), least := SASRecConfig(factors=1, window=1))
    network.initialise(torch.Generator().manual_seed(0))
    return IALSModel(IALSConfig(factors=1), names, np.ones((len(names), 1), np.float32)), SASRecModel(least, names, network)


if __name__ == "__main__":
    compile_all()
