"""Measure how well the list predicts the next item: rank, then learn, over every event of a stream.

Examples:
    RECSYS_DATA=… python -m benchmarks.stream_quality
    RECSYS_DATA=… python -m benchmarks.stream_quality --events 20000 --json

Data: the five-star events of MovieLens 1M in order of time. Before an event is learnt, all items that occurred so far are ranked for its
user, without the items that the user has seen; ties share their mean rank. An unknown user, a seen item and an item that never occurred
before are misses. The list is the worker's: the same engine with the default settings and recipe, one event per micro-batch, no trained
model; a rank is a place on the list of 20, and an item that is not on it is a miss. Nothing is drawn at random.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.datasets import DatasetMissing, Stream, movielens_1m
from benchmarks.figures import benchmark_parser, run_benchmark
from recsys.engine import Engine
from recsys.state.interactions import Interactions
from recsys.state.user_table import quantise_weights
from schemas.events import EventType
from workers.lists.engine_config import engine_config
from workers.settings import load_settings

AT = (1, 5, 10, 20)
_ONE = np.array([1], np.int64)
_PARTITION = np.zeros(1, np.int32)
_TYPE = np.array([EventType.RATING.code], np.int8)


def prequential_ranks(stream: Stream, engine: Engine, n_events: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean rank of each event's item in the list and by popularity, (n_events,) each; infinite for a miss."""
    numbers = {item: number for number, item in enumerate(dict.fromkeys(stream.items))}
    engine.ensure_items(len(numbers))
    engine.neighbours.hold_all()
    for item, number in numbers.items():
        engine.describe_item(number, stream.content.get(item))
    weight = quantise_weights(np.ones(1, np.float32))
    by_list, by_popularity = np.full(n_events, np.inf), np.full(n_events, np.inf)
    for event in range(n_events):
        user, number, at_s = stream.users[event], numbers[stream.items[event]], int(stream.times_s[event])
        slot = engine.users.slot(user)
        popularity = engine.popularity.all_time[: engine.n_items]
        if slot is None:
            engine.users.load({user: None})
            slot = engine.users.slot(user)
            assert slot is not None
        elif popularity[number] > 0 and not _seen(engine, slot)[number]:
            place = np.flatnonzero(engine.recommend(np.array([slot]), {}, at_s).items[0] == number)
            by_list[event] = 1 + place[0] if len(place) else np.inf
            by_popularity[event] = _mean_rank(np.where(_seen(engine, slot), -np.inf, popularity), number)
        at, numbers_of, times_s = np.array([slot]), np.array([number], np.uint32), np.array([at_s], np.uint32)
        batch = Interactions(at, _ONE, numbers_of, times_s, weight, _TYPE, _PARTITION, np.array([event]))
        derived = engine.derive(batch)
        engine.learn_items(derived.delta(engine.config))
        engine.learn_histories(derived)
    return by_list, by_popularity


def _seen(engine: Engine, slot: int) -> NDArray[np.bool_]:
    """Return which items a user has seen, (N,)."""
    users, seen = engine.users, np.zeros(engine.n_items, np.bool_)
    seen[users.items[slot, users.history_length - users.lengths[slot] :]] = True
    seen[users.older[slot]] = True
    return seen


def _mean_rank(scores: NDArray[np.float32], number: int) -> float:
    mine = scores[number]
    return 1.0 + float((scores > mine).sum()) + (float((scores == mine).sum()) - 1.0) / 2.0


def _recalls(ranks: NDArray[np.float64]) -> dict[str, float]:
    return {f"recall@{k}": round(float((ranks <= k).mean()), 5) for k in AT}


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--events", type=int, default=0, help="read only the first N events (default: all)")
    parser.add_argument("--at-least", type=float, nargs=2, metavar=("R10", "R20"), help="exit with 1 if recall@10 or @20 is lower")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        stream = movielens_1m(5.0)
    except DatasetMissing as error:
        print(f"stream_quality: {error}", file=sys.stderr)
        return 2
    n_events = min(arguments.events or len(stream), len(stream))
    started = time.perf_counter()
    by_list, by_popularity = prequential_ranks(stream, Engine(engine_config(load_settings())), n_events)
    seconds = time.perf_counter() - started
    recalls = {"list": _recalls(by_list), "popularity": _recalls(by_popularity)}
    print(f"MovieLens 1M, five-star events, test-then-learn, {n_events:,} events in {seconds:.0f} s")
    print(f"{'':<12}" + "".join(f"{f'R@{k}':>9}" for k in AT))
    for name in ("list", "popularity"):
        print(f"{name:<12}" + "".join(f"{recalls[name][f'recall@{k}']:>9.4f}" for k in AT))
    if arguments.json:
        print(json.dumps({**recalls, "n_events": n_events}))
    floor = dict(zip((10, 20), arguments.at_least or (0.0, 0.0), strict=True))
    if any(recalls["list"][f"recall@{k}"] < least for k, least in floor.items()):
        print(f"stream_quality: the list must reach {floor[10]} @10 and {floor[20]} @20", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_benchmark(main)
