"""Measure what a learned ranker adds to the recipe alone, on logs of real behaviour, point in time and trained again as time goes on.

Examples:
    RECSYS_DATA=… python -m benchmarks.ranker
    RECSYS_DATA=… python -m benchmarks.ranker --data ml-1m --models --json
    RECSYS_DATA=… python -m benchmarks.ranker --data ml-1m --kinds ials sasrec ease
    RECSYS_DATA=… python -m benchmarks.ranker --data deskdrop --learner lightgbm --targets 2000
    RECSYS_DATA=… python -m benchmarks.ranker --data deskdrop --models --without
    RECSYS_DATA=… python -m benchmarks.ranker --check

The log is replayed through the product's engine. Before some of the targets (a user's first touches of an item that somebody touched
before; evenly chosen, --targets) two lists are made from one state: by the recipe alone (off) and with the ranker (on). Recipe and ranker
are trained on the events so far after 40 % of the targets, and again after each further 20 %: the ranker on top of that recipe. With
--models they are trained after 10 and 20 % too, and so are iALS and SASRec (or the --kinds named), on all events so far; the weights of
models and the ranker then learn from the events since the training before, by lists that the models of that time take part in. --without
makes the same lists a second time without models, with a recipe and a ranker of their own that are trained as often.

Each serves as soon as it is trained: no gate holds one back. Options are the defaults for all logs; they were chosen on the newest fifth of
the oldest 40 %. Figures are of the newest 60 % of the targets: NDCG@10, its lead with the interval of 95 % of a bootstrap by user, and
recall at 10, which is also given for the whole stream, as is recall at 20. The lead of the row `no models` is that of the lists with
models and ranker over its own, which have a ranker too.

--check exits 1 unless the lead's interval is above zero on each log and, with models, recall at 10 and 20 of the whole stream of ml-1m is
at least .24 and .345 with the ranker. --without --check asks the same of the lead over lists without models.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import DatasetMissing
from benchmarks.figures import benchmark_parser, emit, run_benchmark
from benchmarks.streams.lists import list_config
from benchmarks.streams.log import NAMED, BadFile, named_log
from benchmarks.streams.protocol import CHOOSING_SHARE, Stream
from recsys.errors import TooFewInteractions
from recsys.evaluation.gate import lead_bounds
from recsys.lists.learned.ranker import LEARNERS
from recsys.lists.recipe import Recipe
from recsys.models.base import Model
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from recsys.ranker.budget import RankerOptions
from recsys.ranker.train import train_ranker
from recsys.recipe.budget import TrainOptions
from recsys.recipe.replay import Log as ReplayLog
from recsys.recipe.replay import Replay, Serving, evenly
from recsys.recipe.train import train_recipe, with_model_weights
from recsys.state.user_table import quantise_weights
from workers.lists.engine_config import engine_config
from workers.settings import load_settings

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DATA = ("ml-1m", "deskdrop", "foursquare-nyc")
SHARES, EARLY = (0.4, 0.6, 0.8), (0.1, 0.2)
KINDS = ("ials", "sasrec")
PLACES, TWICE = 10, 20
RECALLS = (f"recall@{PLACES}", f"all_recall@{PLACES}", f"all_recall@{TWICE}")
LEAST_RECALL = {"ml-1m": {PLACES: 0.24, TWICE: 0.345}}
"""Recall of the whole stream with models and ranker that --check asks for, by the number of places."""
NO_MODELS = "no models"
TIMED_USERS, TIMES = 256, 5
WEIGHED = 5_000
"""Cases that the weights of models are fitted to."""


@dataclass
class Followed:
    """One log, replayed with recipe and ranker trained again on the way. `ranks` are of the targets' items without and with the ranker."""

    name: str
    n_targets: int
    seed: int
    learner: int
    kinds: tuple[str, ...]
    n_events: int = 0
    early: bool = False
    ranks: dict[str, list[float]] = field(default_factory=lambda: {"off": [], "on": []})
    n_trees: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        log = named_log(self.name).first(self.n_events)
        contents = {number: log.content[item_id] for number, item_id in enumerate(log.item_ids) if item_id in log.content}
        self.log = ReplayLog(log.users, log.items, log.times_s, quantise_weights(log.weights), contents, log.types)
        self.item_ids, stream = log.item_ids, Stream.of(log)
        self.targets = stream.events[stream.targets("discovery")]
        self.config = list_config(engine_config(load_settings()), self.seed)
        self.events = evenly(self.targets, self.n_targets)
        self.replay = Replay(self.config, self.log)
        self.recipe: Recipe | None = None
        self.serving: Serving | None = None

    def run(self) -> None:
        """Make all lists."""
        shares = (*(EARLY if self.early else ()), *SHARES)
        points, since = [int(self.targets[int(share * len(self.targets))]) for share in shares], 0
        for event, slot, now_s in self.replay.moments(self.events):
            while points and event >= points[0]:
                self._train(points[0], since)
                since = points.pop(0)
            self._list(event, slot, now_s)

    def _list(self, event: int, slot: int, now_s: int) -> None:
        engine, slots = self.replay.engine, np.array([slot])
        vectors, ranker = engine.encode(slots), engine.ranker
        for name, used in (("off", None), ("on", ranker)):
            if name == "off" or used is not None:
                engine.use_ranker(used)
                place = np.flatnonzero(engine.recommend(slots, vectors, now_s).items[0] == self.log.items[event])
            self.ranks[name].append(1.0 + float(place[0]) if len(place) else np.inf)

    def _train(self, point: int, since: int) -> None:
        """Train on the events before `point`; those from `since` on are new to the models that serve."""
        engine, log, started = self.replay.engine, self.log.first(point), time.perf_counter()
        options = RankerOptions(learner=self.learner, seed=self.seed)
        self.recipe = train_recipe(self.config, log, TrainOptions(seed=self.seed), self.recipe)
        among = self.targets[self.targets < point]
        try:
            if self.serving is not None:
                among = among[among >= since]
                events = evenly(among, WEIGHED)
                self.recipe = with_model_weights(self.config, log, events, self.recipe, self.serving, TrainOptions(seed=self.seed))
            engine.use_recipe(self.recipe)
            if self.serving is not None or not self.kinds:
                engine.use_ranker(train_ranker(self.config, log, self.recipe, options, among=among, serving=self.serving))
                self.n_trees.append(len(engine.ranker.forest) if engine.ranker is not None else 0)
        except TooFewInteractions as error:
            print(f"{self.name}: after {point:,} events: {error}", file=sys.stderr)
        engine.use_recipe(self.recipe)
        if self.kinds:
            self._train_models(point, since)
        print(f"{self.name}: trained on {point:,} events in {time.perf_counter() - started:.0f} s, trees: {self.n_trees}", file=sys.stderr)

    def _train_models(self, point: int, since: int) -> None:
        """Train on the events before `point`; the models that serve were trained on those before `since`."""
        log, before = self.log, {} if self.serving is None else self.serving.models
        order = np.argsort(log.users[:point], kind="stable")
        users, user_codes = np.unique(log.users[:point][order], return_inverse=True)
        items, item_codes = np.unique(log.items[:point][order], return_inverse=True)
        training = TrainingSet(
            user_codes.astype(np.int32),
            item_codes.astype(np.int32),
            log.weights[:point][order].astype(np.float32) / np.float32(32),
            log.times_s[:point][order] * 1_000,
            [self.item_ids[item] for item in items.tolist()],
            len(users),
            order >= since,
        )
        models: dict[str, Model] = {}
        numbers = {item_id: number for number, item_id in enumerate(self.item_ids)}
        for kind in self.kinds:
            config = MODELS[kind].configure({}, {"seed": self.seed})
            models[kind] = MODELS[kind].train(training, config, time.monotonic, warm_start=before.get(kind))
            self.replay.engine.serve(kind, kind, models[kind], numbers)
        self.serving = Serving(models, numbers)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return figures without and with the ranker."""
        last, costs, found = self._judged(), self._costs(), dict[str, dict[str, Any]]()
        for name, ranks in self.ranks.items():
            found[name] = {"ndcg@10": round(float(_gains(np.array(ranks))[last].mean()), 5)}
            for places in (PLACES, TWICE):
                hits = np.array(ranks) <= places
                found[name][f"recall@{places}"] = round(float(hits[last].mean()), 5)
                found[name][f"all_recall@{places}"] = round(float(hits.mean()), 5)
            found[name]["us_a_list"] = costs[name]
        found["on"] |= self.lead_over(self.ranks["off"]) | {"trees": self.n_trees}
        return found

    def lead_over(self, ranks: list[float]) -> dict[str, float]:
        """Return the lead of the lists with the ranker over others, given by their ranks, in NDCG@10, and its interval."""
        last = self._judged()
        lead: F64 = (_gains(np.array(self.ranks["on"])) - _gains(np.array(ranks)))[last]
        numbers, of_user = np.unique(self.log.users[self.events][last], return_inverse=True)
        sums, counts = np.bincount(of_user, lead), np.bincount(of_user, minlength=len(numbers))
        low, high = lead_bounds(sums[None, :].astype(np.float64), counts, seed=self.seed)[0].tolist()
        return {"lead": round(float(lead.mean()), 5), "lead_low": round(low, 5), "lead_high": round(high, 5)}

    def _judged(self) -> NDArray[np.bool_]:
        """Return which of the events are among the newest targets, those that figures are of."""
        newest: NDArray[np.bool_] = self.events >= self.targets[int(CHOOSING_SHARE * len(self.targets))]
        return newest

    def _costs(self) -> dict[str, float]:
        """Return the microseconds a list takes off and on, all lists of a turn made together, in turns."""
        engine, took = self.replay.engine, {name: list[float]() for name in self.ranks}
        slots = np.array([self.replay.slot(int(user)) for user in np.unique(self.log.users[self.events])[:TIMED_USERS]])
        now_s, vectors, ranker = engine.popularity.newest_s, engine.encode(slots), engine.ranker
        for turn in range(TIMES + 1):  # the first one compiles
            for name in took:
                engine.use_ranker(ranker if name == "on" else None)
                started = time.perf_counter()
                engine.recommend(slots, vectors, now_s)
                if turn:
                    took[name].append(1e6 * (time.perf_counter() - started) / len(slots))
        return {name: round(float(np.median(times)), 1) for name, times in took.items()}


def _gains(ranks: F64) -> F64:
    return np.where(ranks <= PLACES, 1 / np.log2(1 + np.minimum(ranks, PLACES)), 0.0)


def rows_of(name: str, figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the table's rows of one log."""
    rows = []
    for state, one in figures.items():
        lead = f"{one['lead']:+.4f} [{one['lead_low']:+.4f}, {one['lead_high']:+.4f}]" if "lead" in one else ""
        numbers = (f"{one['ndcg@10']:.4f}", lead, *(f"{one[key]:.4f}" for key in RECALLS), f"{one['us_a_list']:.0f}")
        rows.append((name, state, *numbers))
    return rows


def failures(found: Mapping[str, Mapping[str, Mapping[str, Any]]], has_models: bool) -> list[str]:
    """Return what --check asks for and the figures by log do not show."""
    missed = []
    for name, figures in found.items():
        on = figures["on"]
        for over in ("on", NO_MODELS):
            if (one := figures.get(over)) is not None and one["lead_low"] <= 0:
                what = "the recipe" if over == "on" else "lists without models"
                lead = f"{one['lead']:.4f}, at least {one['lead_low']:.4f}"
                missed.append(f"{name}: NDCG@10 leads over {what} by {lead}; more than 0 is asked for")
        for places, least in LEAST_RECALL.get(name, {}).items() if has_models else ():
            if (recall := on[f"all_recall@{places}"]) < least:
                missed.append(f"{name}: recall@{places} of the whole stream is {recall:.4f}; {least} is asked for")
    return missed


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--data", nargs="+", choices=[*NAMED], default=list(DATA), metavar="NAME", help=f"default: {', '.join(DATA)}")
    parser.add_argument("--events", type=int, default=0, metavar="N", help="read only the first N events of each (default: all)")
    parser.add_argument("--targets", type=int, default=10_000, help="targets that are listed, evenly chosen (default: 10,000)")
    parser.add_argument("--learner", choices=LEARNERS, default=LEARNERS[0], help=f"what grows the trees (default: {LEARNERS[0]})")
    parser.add_argument("--models", action="store_true", help="train iALS and SASRec too, and let them take part in lists")
    parser.add_argument("--kinds", nargs="+", choices=[*MODELS], metavar="KIND", help=f"models (with --models: {' '.join(KINDS)})")
    parser.add_argument("--without", action="store_true", help="with models: make the same lists without any, too")
    parser.add_argument("--seed", type=int, default=0, help="seed of all trainings (default: 0)")
    parser.add_argument("--check", action="store_true", help="exit 1 unless the ranker leads on each log")
    arguments = parser.parse_args()
    kinds = tuple(arguments.kinds or (KINDS if arguments.models else ()))
    if arguments.without and not kinds:
        print("ranker: --without compares with lists of models: add --models or --kinds", file=sys.stderr)
        return 2
    if arguments.targets < 100 or arguments.events < 0:
        print("ranker: --targets must be at least 100, --events at least 0", file=sys.stderr)
        return 2
    learner = LEARNERS.index(arguments.learner)
    found: dict[str, Any] = {}
    rows: list[tuple[str, ...]] = []
    try:
        for name in dict.fromkeys(arguments.data):
            followed = Followed(name, arguments.targets, arguments.seed, learner, kinds, arguments.events, bool(kinds))
            followed.run()
            found[name] = followed.figures()
            if arguments.without:
                without = Followed(name, arguments.targets, arguments.seed, learner, (), arguments.events, early=True)
                without.run()
                found[name][NO_MODELS] = without.figures()["on"] | followed.lead_over(without.ranks["on"])
            rows += rows_of(name, found[name])
    except (BadFile, DatasetMissing) as error:
        print(f"ranker: {error}", file=sys.stderr)
        return 2
    columns = ("data", "ranker", "NDCG@10", "lead [95 %]", "recall@10", "recall@10, all", "recall@20, all", "µs a list")
    what = f"{arguments.targets:,} targets, {arguments.learner}, models: {', '.join(kinds) or 'none'}, seed {arguments.seed}"
    settings = {"seed": arguments.seed, "targets": arguments.targets, "learner": arguments.learner, "models": [*kinds]}
    emit("ranker", what, columns, rows, {**settings, **found}, as_json=arguments.json)
    missed = failures(found, bool(kinds)) if arguments.check else []
    for one in missed:
        print(f"ranker: {one}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_benchmark(main)
