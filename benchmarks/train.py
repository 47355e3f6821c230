"""Measure how fast models are trained, and their quality: iALS against `implicit`, the columnar log, SASRec.

Examples:
    python -m benchmarks.train --only log sasrec
    RECSYS_DATA=… python -m benchmarks.train --only ials --threads 1 --chosen
    RECSYS_DATA=… python -m benchmarks.train --json

Data: `ml-1m`, the ratings of 4 and 5 of MovieLens 1M, each a preference of weight 1 (RECSYS_DATA names the folder; without it `generated`,
6,000 users and 3,500 items). Split by time: the oldest 80 % of events train, the next 10 % choose options (validation), the newest 10 % are
used once, at the end, by models trained on all earlier events (test).

Protocol for all models (`recsys.evaluation.ranking.evaluate`): up to 5,000 preferences of the slice, evenly chosen, each for an item new
to its user. The user's vector is folded in from the 100 interactions before it, exactly, by each library's own solver. All items are ranked
except those that the user has touched.

* ials: this project's iALS with its default `tolerance` of 0.001; part `exact` adds `ials_exact` with 0.00001. implicit:
  AlternatingLeastSquares (extra `bench`) with its default, three steps of conjugate gradients; part `exact` adds `implicit_exact` by
  Cholesky. 64 factors, 12 sweeps, seed 0. Each library's confidence and regularisation come from a grid of nine on the validation slice
  (with `--chosen` from an earlier grid). Timed: fits on all events before the test slice, set-up included, from the same interactions in
  memory, on one thread and on all; BLAS inside `implicit` uses one thread, as its manual asks. `time_ratio_to_implicit` compares fits of
  just enough sweeps for each library to come within 0.5 % of its converged NDCG@10 (mean of the last five of 16 sweeps) on the validation
  slice.
* log: the same events, written by `EventLog.append` to a temporary folder as the trainer does, read into a TrainingSet. The limit is
  pyarrow reading the same columns of the same files.
* sasrec: one epoch over some users' sequences, with the default options.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import xxhash
from scipy import sparse

from benchmarks.bench import PARTITIONS
from benchmarks.datasets import Stream, chosen_stream
from benchmarks.figures import Spread, benchmark_parser, emit, run_benchmark
from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import evaluate, evaluate_popularity
from recsys.models.base import F32, Histories, Model
from recsys.models.ials import model as ials
from recsys.models.sasrec import training as sasrec_training
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.training_set import TrainingSet
from schemas import EventType
from workers.kafka.partitioner import partition_for
from workers.settings import WeightSettings
from workers.trainer.event_columns import COUNTED, events_table
from workers.trainer.event_log import EventLog
from workers.trainer.training_columns import TrainingColumns

PARTS = ("ials", "exact", "log", "sasrec")
SEED = 0
SWEEPS = 12
CONVERGED_SWEEPS = 16
CLOSE = 0.995
HISTORY_LENGTH = 100
APPENDED_EVENTS = 5_000
"""Events of one write to the log: the most that the trainer polls at once."""
IALS_GRID = {"unobserved_weight": (0.2, 0.5, 1.0), "regularisation": (0.003, 0.006, 0.012)}
IMPLICIT_GRID = {"alpha": (1.0, 2.0, 4.0), "regularization": (10.0, 30.0, 100.0)}
CHOSEN = {"unobserved_weight": 1.0, "regularisation": 0.003}, {"alpha": 2.0, "regularization": 30.0}
"""What the grids choose on MovieLens 1M."""

Fit = Callable[[TrainingSet, int], Any]


class ImplicitFactors:
    """`implicit`'s item factors as a model to evaluate; users are folded in by its own exact solve."""

    history_length = HISTORY_LENGTH

    def __init__(self, fitted: Any, item_ids: list[str]) -> None:
        self.fitted, self.item_ids = fitted, item_ids
        self.item_vectors: F32 = fitted.item_factors

    def encode(self, histories: Histories) -> F32:
        users, columns = np.nonzero((histories.items >= 0) & (histories.weights > 0))
        chosen = (histories.weights[users, columns], (users, histories.items[users, columns]))
        touched = sparse.csr_matrix(chosen, shape=(len(histories), len(self.item_ids)))
        vectors: F32 = self.fitted.recalculate_user(np.arange(len(histories)), touched)
        return vectors


def fit_ials(training: TrainingSet, sweeps: int, **options: Any) -> Model:
    """Train this project's iALS on as many threads as torch uses."""
    return ials.fit(training, ials.IALSConfig(epochs=sweeps, seed=SEED, history_length=HISTORY_LENGTH, **options))


def fit_implicit(
    training: TrainingSet, sweeps: int, after_sweep: Callable[[ImplicitFactors], None] | None = None, **options: Any
) -> ImplicitFactors:
    """Train `implicit`'s ALS on as many threads as torch uses."""
    from implicit.als import AlternatingLeastSquares

    factors = ials.IALSConfig().factors
    model = AlternatingLeastSquares(
        factors=factors, iterations=sweeps, random_state=SEED, num_threads=torch.get_num_threads(), dtype=np.float32, **options
    )
    pairs = training.entries(HISTORY_LENGTH)  # what this project's iALS trains on
    touched = sparse.csr_matrix((pairs.weights, pairs.items, pairs.user_starts()), shape=(pairs.n_users, pairs.n_items))

    def report(*_: Any) -> None:
        if after_sweep is not None:
            # implicit caches this for folding in, and each sweep changes it
            model._YtY = None
            after_sweep(ImplicitFactors(model, training.item_ids))

    model.fit(touched, show_progress=False, callback=report)
    return ImplicitFactors(model, training.item_ids)


@dataclass(frozen=True, slots=True)
class Split:
    """Training data and slice for validation, and for the test."""

    training: TrainingSet
    validation: Slice
    before_test: TrainingSet
    test: Slice

    @classmethod
    def of(cls, stream: Stream) -> Split:
        """Split 80, 10 and 10 % of the events by time; events of one second stay together, in the newer part."""
        _, users = np.unique(np.array(stream.users), return_inverse=True)
        ids, items = np.unique(np.array(stream.items), return_inverse=True)
        item_ids, weights, ts_ms = ids.tolist(), np.ones(len(users), np.float32), stream.times_s * 1000
        validation_ms, test_ms = (int(np.sort(ts_ms)[int(share * len(ts_ms))]) for share in (0.8, 0.9))
        early, old = ts_ms < validation_ms, ts_ms < test_ms
        return cls(
            TrainingSet.from_columns(users[early], items[early], item_ids, weights[early], ts_ms[early]),
            Slice.cut(users[old], items[old], item_ids, weights[old], ts_ms[old], validation_ms),
            TrainingSet.from_columns(users[old], items[old], item_ids, weights[old], ts_ms[old]),
            Slice.cut(users, items, item_ids, weights, ts_ms, test_ms),
        )


def chosen_options(fit: Callable[..., Any], grid: Mapping[str, Sequence[float]], split: Split) -> dict[str, float]:
    """Return the options, from a grid over two, with the highest NDCG@10 on the validation slice."""
    (first, firsts), (second, seconds) = grid.items()
    tried = [{first: a, second: b} for a in firsts for b in seconds]
    return max(tried, key=lambda options: evaluate(fit(split.training, SWEEPS, **options), split.validation)["ndcg@10"])


def sweeps_needed(ndcg: Sequence[float]) -> int:
    """Return the first sweep within 0.5 % of the mean of the last five."""
    enough = CLOSE * statistics.fmean(ndcg[-5:])
    return next(sweep for sweep, value in enumerate(ndcg, start=1) if value >= enough)


@dataclass(frozen=True, slots=True)
class Times:
    """Wall and processor seconds of repeated runs."""

    wall: Spread
    cpu: Spread

    def __str__(self) -> str:
        if len(self.wall.values) == 1:
            return f"{self.wall.median:.2f}"
        return f"{self.wall.median:.2f} ({self.wall.low:.2f} to {self.wall.high:.2f})"

    def figures(self, name: str, suffix: str) -> dict[str, float]:
        return {
            f"{name}_s{suffix}": round(self.wall.median, 4),
            f"{name}_s{suffix}_low": round(self.wall.low, 4),
            f"{name}_s{suffix}_high": round(self.wall.high, 4),
            f"{name}_cpu_s{suffix}": round(self.cpu.median, 4),
        }


def timed(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """Time each run `repeats` times; runs take turns, so that a busy minute of the machine affects all of them."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            run()
            seconds[name].append((time.perf_counter() - started, time.process_time() - cpu_started))
    return {
        name: Times(Spread(tuple(wall for wall, _ in found)), Spread(tuple(cpu for _, cpu in found))) for name, found in seconds.items()
    }


Rows = list[tuple[str, ...]]
Threads = dict[str, int]
"""Suffix of a measurement's keys ▸ its number of threads."""


def compare(stream: Stream, repeats: int, threads: Threads, *, exact: bool, chosen: bool) -> tuple[dict[str, Any], Rows]:
    """Compare iALS with `implicit`, with `exact` also both solved exactly; return figures and the table's rows."""
    split = Split.of(stream)
    torch.set_num_threads(os.cpu_count() or 1)  # not timed
    if chosen:
        ours, theirs = CHOSEN
    else:
        ours, theirs = chosen_options(fit_ials, IALS_GRID, split), chosen_options(fit_implicit, IMPLICIT_GRID, split)
    curves: dict[str, list[float]] = {"ials": [], "implicit": []}
    for sweeps in range(1, CONVERGED_SWEEPS + 1):
        curves["ials"].append(evaluate(fit_ials(split.training, sweeps, **ours), split.validation)["ndcg@10"])

    def judge(model: ImplicitFactors) -> None:
        curves["implicit"].append(evaluate(cast(Model, model), split.validation)["ndcg@10"])

    fit_implicit(split.training, CONVERGED_SWEEPS, judge, **theirs)
    needed = {name: sweeps_needed(curve) for name, curve in curves.items()}
    fits: dict[str, Fit] = {
        "ials": lambda training, sweeps: fit_ials(training, sweeps, **ours),
        "implicit": lambda training, sweeps: fit_implicit(training, sweeps, None, **theirs),
    }
    if exact:
        fits |= {
            "ials_exact": lambda training, sweeps: fit_ials(training, sweeps, **ours, tolerance=1e-5),
            "implicit_exact": lambda training, sweeps: fit_implicit(training, sweeps, None, **theirs, use_cg=False),
        }
    figures: dict[str, Any] = {
        "n_interactions": len(split.before_test),
        "n_training_interactions": len(split.training),
        "n_users": split.before_test.n_users,
        "n_items": split.before_test.n_items,
        "factors": ials.IALSConfig().factors,
        "sweeps": SWEEPS,
        "implicit_version": metadata.version("implicit"),
        "ials_options": ours,
        "implicit_options": theirs,
    }
    for name, curve in curves.items():
        figures |= {f"{name}_sweeps_needed": needed[name], f"{name}_validation_ndcg_at_10_by_sweep": [round(value, 5) for value in curve]}
    rows: Rows = []
    models: dict[str, Any] = {}
    by_threads = []
    for suffix, n_threads in threads.items():
        torch.set_num_threads(n_threads)
        runs = {name: _keeping(models, name, fit, split.before_test) for name, fit in fits.items()}
        times = timed({name: run for name, run in runs.items() if name != "implicit_exact"}, repeats)
        if exact:  # once: six times as long as the others, and not what ships
            times |= timed({"implicit_exact": runs["implicit_exact"]}, 1)
        close = timed({name: partial(fits[name], split.training, sweeps) for name, sweeps in needed.items()}, repeats)
        for name, found in times.items():
            figures |= found.figures(f"{name}_fit", suffix)
        for name, found in close.items():
            figures |= found.figures(f"{name}_close", suffix)
        figures[f"time_ratio_to_implicit{suffix}"] = _ratio(close["ials"], close["implicit"])
        figures[f"same_sweeps_time_ratio_to_implicit{suffix}"] = _ratio(times["ials"], times["implicit"])
        if exact:
            figures[f"exact_time_ratio_to_implicit_exact{suffix}"] = _ratio(times["ials_exact"], times["implicit_exact"])
        by_threads.append((times, close))
    for name, model in models.items():
        metrics = evaluate(model, split.test)
        figures |= {f"{name}_ndcg_at_10": round(metrics["ndcg@10"], 5), f"{name}_recall_at_20": round(metrics["recall@20"], 5)}
        figures["n_test_targets"] = int(metrics["n_targets"])
        cells = [cell for times, close in by_threads for cell in (str(times[name]), str(close.get(name, "")))]
        rows.append((name, *cells, str(needed.get(name, "")), f"{metrics['ndcg@10']:.4f}", f"{metrics['recall@20']:.4f}"))
    popular = evaluate_popularity(split.test)
    figures |= {"popularity_ndcg_at_10": round(popular["ndcg@10"], 5), "popularity_recall_at_20": round(popular["recall@20"], 5)}
    rows.append(("popularity", *[""] * (2 * len(threads) + 1), f"{popular['ndcg@10']:.4f}", f"{popular['recall@20']:.4f}"))
    return figures, rows


def _keeping(models: dict[str, Any], name: str, fit: Fit, training: TrainingSet) -> Callable[[], None]:
    def run() -> None:
        models[name] = fit(training, SWEEPS)

    return run


def _ratio(ours: Times, theirs: Times) -> float:
    return round(ours.wall.median / theirs.wall.median, 3)


def write_log(stream: Stream, folder: Path) -> EventLog:
    """Write the stream to the columnar log, partition after partition, in as many writes as the trainer makes."""
    log = EventLog(str(folder), "0" * 32)
    partitions = np.array([partition_for(user.encode(), PARTITIONS) for user in stream.users])
    for partition in range(PARTITIONS):
        chosen = np.flatnonzero(partitions == partition)
        for first in range(0, len(chosen), APPENDED_EVENTS):
            places = chosen[first : first + APPENDED_EVENTS].tolist()
            table = events_table(
                list(range(first, first + len(places))),
                [stream.users[i] for i in places],
                [stream.items[i] for i in places],
                [EventType.RATING.code] * len(places),
                stream.ratings[places].tolist(),
                (stream.times_s[places] * 1000).tolist(),
                [xxhash.xxh64_intdigest(f"event-{i}".encode()) for i in places],
            )
            log.append(partition, first, first + len(places) - 1, table)
    return log


def read_log(log: EventLog) -> TrainingSet:
    """Read the log as a training round does before it trains."""
    return TrainingColumns.of(log.read(), WeightSettings()).training_set()


def read_log_rates(stream: Stream, repeats: int, threads: Threads) -> tuple[dict[str, Any], Rows]:
    """Measure rows of the log per second, and those of pyarrow alone; return figures and the table's rows."""
    figures: dict[str, Any] = {}
    rows: Rows = []
    with tempfile.TemporaryDirectory() as folder:
        log = write_log(stream, Path(folder))
        paths = [os.path.join(folder, segment.name) for segment in log.segments()]
        if len(read_log(log)) != len(stream):
            raise RuntimeError(f"{len(stream)} events were written, {len(read_log(log))} came back")
        runs = {"log": lambda: read_log(log), "log_limit": lambda: [pq.read_table(path, columns=list(COUNTED)) for path in paths]}
        for suffix, n_threads in threads.items():
            pa.set_cpu_count(n_threads)
            times = timed(runs, 3 * repeats)
            rates = {name: Spread(tuple(len(stream) / seconds for seconds in found.wall.values)) for name, found in times.items()}
            for name, rate in rates.items():
                figures |= {f"{name}_rows_per_s{suffix}": round(rate.median), f"{name}_rows_per_s{suffix}_low": round(rate.low)}
                figures[f"{name}_rows_per_s{suffix}_high"] = round(rate.high)
                rows.append((name, str(n_threads), str(rate)))
            figures[f"log_share_of_limit{suffix}"] = round(rates["log"].median / rates["log_limit"].median, 3)
        figures |= {"log_rows": len(stream), "log_segments": len(paths)}
    return figures, rows


def sasrec_rates(stream: Stream, repeats: int, threads: Threads, n_tokens: int) -> tuple[dict[str, Any], Rows]:
    """Measure SASRec's training in tokens per second over the first users with `n_tokens` together; return figures and the table's rows."""
    training = Split.of(stream).training
    tokens = np.cumsum(np.maximum(np.diff(training.user_starts()) - 1, 0))
    n_users = min(int(np.searchsorted(tokens, n_tokens)) + 1, training.n_users)
    kept = training.users < n_users
    part = replace(
        training, users=training.users[kept], items=training.items[kept], weights=training.weights[kept], ts_ms=training.ts_ms[kept],
        n_users=n_users,
    )  # fmt: skip
    n_tokens = int(tokens[n_users - 1])
    figures: dict[str, Any] = {"sasrec_tokens": n_tokens}
    rows: Rows = []
    for suffix, n_threads in threads.items():
        torch.set_num_threads(n_threads)
        times = timed({"sasrec": lambda: sasrec_training.fit(part, SASRecConfig(fixed_epochs=1, seed=SEED))}, repeats)["sasrec"]
        rate = Spread(tuple(n_tokens / seconds for seconds in times.wall.values))
        figures |= {f"sasrec_tokens_per_s{suffix}": round(rate.median), f"sasrec_tokens_per_s{suffix}_low": round(rate.low)}
        figures[f"sasrec_tokens_per_s{suffix}_high"] = round(rate.high)
        rows.append(("sasrec", str(n_threads), str(rate)))
    return figures, rows


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--data", choices=("ml-1m", "generated"), default="ml-1m", help="the events (default: ml-1m)")
    parser.add_argument("--events", type=int, default=500_000, help="events of the generated stream (default: 500,000)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"run only these: {', '.join(PARTS)}")
    parser.add_argument("--threads", nargs="+", choices=("1", "all"), default=["1", "all"], help="numbers of threads (default: 1 all)")
    parser.add_argument("--chosen", action="store_true", help="skip the grids; use the options that they chose on MovieLens 1M")
    parser.add_argument("--sasrec-tokens", type=int, default=40_000, help="tokens of SASRec's epoch (default: 40,000)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each kind, 1 of implicit_exact; the median counts")
    arguments = parser.parse_args()
    if {"ials", "exact"} & set(arguments.only) and importlib.util.find_spec("implicit") is None:
        print("train: implicit is missing; pip install -e '.[bench]' -c constraints.txt, or --only log sasrec", file=sys.stderr)
        return 2
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # read when numpy loads; without it implicit nests threads
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.train", *sys.argv[1:]], {**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {suffix: count for name, suffix, count in (("1", "", 1), ("all", "_all_threads", n_threads)) if name in arguments.threads}
    stream, name = chosen_stream(arguments.data, arguments.events)
    figures: dict[str, Any] = {
        "data": name,
        "split": "by time: 80 % training, 10 % validation (chooses), 10 % test (looked at once)",
        "protocol": "all unseen items ranked for each of up to 5,000 held-out preferences, user folded in from the 100 before it",
        "seed": SEED,
        "repeats": arguments.repeats,
        "n_threads_all": n_threads,
    }
    tables = []
    if {"ials", "exact"} & set(arguments.only):
        found, rows = compare(stream, arguments.repeats, threads, exact="exact" in arguments.only, chosen=arguments.chosen)
        figures |= found
        heads = [f"s, {what}, threads: {count}" for count in threads.values() for what in (f"{SWEEPS} sweeps", "to 99.5 %")]
        tables.append((("fit", *heads, "sweeps to 99.5 %", "NDCG@10", "Recall@20"), rows))
    rates: Rows = []
    rated: dict[str, Callable[[], tuple[dict[str, Any], Rows]]] = {
        "log": lambda: read_log_rates(stream, arguments.repeats, threads),
        "sasrec": lambda: sasrec_rates(stream, arguments.repeats, threads, arguments.sasrec_tokens),
    }
    for part, run in rated.items():
        if part in arguments.only:
            found, rows = run()
            figures |= found
            rates += rows
    if rates:
        tables.append((("read or trained", "threads", "rows or tokens/s"), rates))
    for number, (columns, rows) in enumerate(tables):
        emit("train", name, columns, rows, figures, as_json=arguments.json and number == len(tables) - 1)
    return 0


if __name__ == "__main__":
    run_benchmark(main)
