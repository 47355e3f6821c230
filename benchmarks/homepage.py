"""Measure what each stage between the ranker and the list does to lists, and what it costs, on logs of real behaviour.

Examples:
    RECSYS_DATA=… python -m benchmarks.homepage
    RECSYS_DATA=… python -m benchmarks.homepage --data deskdrop --targets 1000 --json
    RECSYS_DATA=… python -m benchmarks.homepage --data ml-1m --check

`--check` ends with 1 unless on each log with described items MMR or DPP makes lists differ by a fifth more, for at most 3 % of NDCG@10.

The log is replayed through the product's engine, point in time. Recipe and ranker are trained on the oldest 40 % of the targets (a user's
first touches of an item that somebody touched before); of the newest 60 % some, evenly chosen (--targets), are listed for their user
just before they happen, with each stage off and on, from one state. Nothing is tuned per log: the stages have the settings that
`STAGES` names.

Figures of the first ten places: `recall@10` and `ndcg@10` of the item that the user chose, with the standard error of the difference by
user; `coverage`, the share of the items that may be listed which are on some list; `gini` of how often items are listed (1: a few items
take all places); `diversity`, 1 − the mean cosine of the content of two items of a list; `calibration`, the Kullback-Leibler divergence of
a list's mix of categories from that of the user's history (lower is nearer); and `us_a_list`, the median of five times 256 lists together.
Without described items there is no diversity and no calibration, and stages that read content change nothing. `churn`, of the stage
`stability` only, is the mean share of the ten places that hold another item than on a list of the same user made earlier, half the log's
events after the user's event before: nothing that the user did lies between the two. `rows` are five rows of ten
beside the list, which they leave as it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import DatasetMissing
from benchmarks.figures import benchmark_parser, emit, run_benchmark
from benchmarks.streams.lists import list_config
from benchmarks.streams.log import NAMED, BadFile, named_log
from benchmarks.streams.protocol import Stream, n_choosing
from recsys.catalogue.labels import FIRST_CATEGORY
from recsys.engine import Engine, EngineConfig
from recsys.lists.context import ListContext
from recsys.lists.policies.options import (
    NO_POLICY,
    CalibrationOptions,
    Cap,
    DiversityOptions,
    FreshnessOptions,
    PolicyOptions,
)
from recsys.lists.row_options import RowSpec
from recsys.ranker.budget import RankerOptions
from recsys.ranker.train import train_ranker
from recsys.recipe.budget import TrainOptions
from recsys.recipe.replay import Log as ReplayLog
from recsys.recipe.replay import Replay, evenly
from recsys.recipe.train import train_recipe
from recsys.state.user_table import quantise_weights

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DATA = ("ml-1m", "deskdrop", "foursquare-nyc")
PLACES = 10
SIZE = 20
DIFFERS, KEEPS = 1.2, 0.97
TIMED_USERS, TIMES = 256, 5
DAY_S = 86_400
STABILITY = "stability"
STAGES: Mapping[str, PolicyOptions] = {
    "freshness": PolicyOptions(freshness=FreshnessOptions(0.7, 7 * DAY_S)),
    "calibration": PolicyOptions(calibration=CalibrationOptions(0.1)),
    "mmr": PolicyOptions(diversity=DiversityOptions("mmr", 0.2)),
    "dpp": PolicyOptions(diversity=DiversityOptions("dpp", 0.18)),
    "caps": PolicyOptions(caps=(Cap("category", 3, PLACES),)),
    STABILITY: PolicyOptions(stability_margin=0.1),
}
"""One stage each, with the strengths that docs/homepage.md names."""
ROWS: Mapping[str, tuple[RowSpec, ...]] = {
    "rows": (
        RowSpec("for_you", 10, 3),
        RowSpec("because", 10, 3),
        RowSpec("popular_now", 10, 3),
        RowSpec("new_in", 10, 3),
        RowSpec("again", 10, 3),
    )
}
"""Rows beside the list, which stays as it is: what they cost."""
MIXED = "one_category"
"""At most nine of the first ten places of one first category: `lists.most_of_category`, the only stage that is on by default."""
RANKER = "ranker"
"""A learned ranker over the recipe; `benchmarks.ranker` trains it again as time goes on."""
ALL_STAGES = (MIXED, *STAGES, *ROWS, RANKER)


@dataclass
class Seen:
    """Lists of one configuration: the rank of each case's item, and the items listed."""

    ranks: list[float] = field(default_factory=list)
    items: list[I64] = field(default_factory=list)
    similar: list[float] = field(default_factory=list)
    divergence: list[float] = field(default_factory=list)
    churn: list[float] = field(default_factory=list)


class Homepage:
    """Lists of one log with every stage off and on."""

    def __init__(self, name: str, n_events: int, n_targets: int, seed: int) -> None:
        log = named_log(name).first(n_events)
        stream = Stream.of(log)
        contents = {number: log.content[item_id] for number, item_id in enumerate(log.item_ids) if item_id in log.content}
        self.log = ReplayLog(log.users, log.items, log.times_s, quantise_weights(log.weights), contents, log.types)
        self.has_content = bool(contents)
        self.categories = [tuple(contents[number].categories) if number in contents else () for number in range(len(log.item_ids))]
        targets = stream.events[stream.targets("discovery")]
        cut = n_choosing(len(targets))
        self.users, self.events = log.users, evenly(targets[cut:], n_targets)
        everything = frozenset[str]().union(*(policy.label_fields for policy in STAGES.values()))
        config = replace(list_config(EngineConfig(), seed), list_size=SIZE, label_fields=frozenset((FIRST_CATEGORY,)))
        self.replay = Replay(replace(config, policy=_holding(everything)), self.log)
        recipe = train_recipe(config, self.log.first(int(targets[cut])), TrainOptions(seed=seed))
        self.replay.engine.use_recipe(recipe)
        self.ranker = train_ranker(config, self.log.first(int(targets[cut])), recipe, RankerOptions(seed=seed))
        self.seen: dict[str, Seen] = {"off": Seen(), **{stage: Seen() for stage in ALL_STAGES}}
        self.listable = 0
        self._refreshed = _earlier(log.users, self.events)
        """Event ▸ users whose list is made just before it, and the event at which it is made again."""

    def run(self) -> None:
        """Make all lists of all cases."""
        engine, cases = self.replay.engine, set(self.events.tolist())
        earlier: dict[int, I64] = {}
        for event, slot, now_s in self.replay.moments(np.union1d(self.events, list(self._refreshed))):
            for case in self._refreshed.get(event, ()):
                refreshed = np.array([self.replay.slot(int(self.users[case]))])
                earlier[case] = engine.recommend(refreshed, engine.encode(refreshed), self._with(engine.shared(now_s), "off")).items
            if event not in cases:
                continue
            slots, item, before = np.array([slot]), int(self.log.items[event]), earlier.pop(event, None)
            context, vectors = engine.shared(now_s), engine.encode(slots)
            mix = self._mix(engine.users.items[slot][engine.users.weights[slot] > 0])
            for name, seen in self.seen.items():
                previous = before if name == STABILITY else None
                listed = engine.recommend(slots, vectors, self._with(context, name), previous=previous).items[0][:PLACES]
                if before is not None and name in ("off", STABILITY):
                    seen.churn.append(float((listed != before[0, :PLACES]).mean()))
                listed = listed[listed >= 0]
                place = np.flatnonzero(listed == item)
                seen.ranks.append(1.0 + float(place[0]) if len(place) else np.inf)
                seen.items.append(listed)
                seen.similar.append(self._similarity(engine, listed))
                seen.divergence.append(_divergence(mix, self._mix(listed)))
        self.listable = int(np.count_nonzero(engine.catalogue.recommendable(engine.popularity.newest_s)))

    def figures(self) -> Iterator[tuple[str, str, dict[str, float | None]]]:
        """Yield stage, off or on, and figures."""
        users = np.unique(self.users[self.events], return_inverse=True)[1]
        costs = self._costs()
        off = self._of("off") | {"us_a_list": costs["off"]}
        for stage in ALL_STAGES:
            on = self._of(stage) | {"us_a_list": costs[stage]}
            lead = _gains(self.seen[stage].ranks) - _gains(self.seen["off"].ranks)
            on["ndcg@10_lead_error"] = round(_error_by_user(lead, users), 5)
            if stage == STABILITY:
                on["churn"] = _mean(self.seen[stage].churn)
            yield stage, "off", off | ({"churn": _mean(self.seen["off"].churn)} if stage == STABILITY else {})
            yield stage, "on", on

    def _of(self, name: str) -> dict[str, float | None]:
        seen = self.seen[name]
        ranks, counts = np.array(seen.ranks), np.bincount(np.concatenate(seen.items), minlength=self.listable)
        return {
            "ndcg@10": round(float(_gains(seen.ranks).mean()), 5),
            "recall@10": round(float((ranks <= PLACES).mean()), 5),
            "coverage": round(float((counts > 0).sum() / max(self.listable, 1)), 5),
            "gini": round(_gini(counts), 5),
            "diversity": _mean([1.0 - one for one in seen.similar]) if self.has_content else None,
            "calibration": _mean(seen.divergence),
        }

    def _costs(self) -> dict[str, float]:
        """Return the microseconds a list takes with each stage, all lists of a turn made together, in turns."""
        engine = self.replay.engine
        slots = np.array([self.replay.slot(int(user)) for user in np.unique(self.users[self.events])[:TIMED_USERS]])
        now_s, took = engine.popularity.newest_s, {name: list[float]() for name in self.seen}
        vectors = engine.encode(slots)
        for turn in range(TIMES + 1):  # the first one compiles
            for name in self.seen:
                started = time.perf_counter()
                engine.recommend(slots, vectors, self._with(engine.shared(now_s), name))
                if turn:
                    took[name].append(1e6 * (time.perf_counter() - started) / len(slots))
        return {name: round(float(np.median(times)), 1) for name, times in took.items()}

    def _with(self, context: ListContext, stage: str) -> ListContext:
        """Return the context for lists with one stage, rows, or the ranker."""
        ranker = self.ranker if stage == RANKER else None
        policy, most = STAGES.get(stage, NO_POLICY), 9 if stage == MIXED else PLACES
        options = replace(context.options, policy=policy, rows=ROWS.get(stage, ()), ranker=ranker, most_of_category=most)
        return replace(context, options=options)

    def _mix(self, items: I64) -> dict[str, float]:
        """Return the shares of categories among items; an item of several counts in each in part."""
        mix: dict[str, float] = {}
        for item in items.tolist():
            for category in self.categories[item]:
                mix[category] = mix.get(category, 0.0) + 1 / len(self.categories[item])
        total = sum(mix.values())
        return {category: share / total for category, share in mix.items()} if total else {}

    def _similarity(self, engine: Engine, items: I64) -> float:
        """Return the mean cosine of two items of a list; NaN for fewer than two."""
        if len(items) < 2:
            return np.nan
        features = engine.catalogue.features[items] if engine.catalogue.kinds is None else _features_of(engine, items)
        lengths = np.linalg.norm(features, axis=1)
        cosines = (features @ features.T) / np.maximum(np.outer(lengths, lengths), 1e-9)
        return float(cosines[np.triu_indices(len(items), 1)].mean())


def _earlier(users: I64, events: I64) -> dict[int, list[int]]:
    """Return for events (B,) the place in the log half way from the same user's event before it to the event: place ▸ events. An event with
    nothing in between is left out."""
    order = np.lexsort((np.arange(len(users)), users))
    before = np.full(len(users), -1, np.int64)
    is_next = users[order][1:] == users[order][:-1]
    before[order[1:][is_next]] = order[:-1][is_next]
    found: dict[int, list[int]] = {}
    for event in events.tolist():
        place = (int(before[event]) + event + 1) // 2
        if before[event] >= 0 and before[event] < place < event:
            found.setdefault(place, []).append(event)
    return found


def _features_of(engine: Engine, items: I64) -> NDArray[np.float32]:
    kinds = engine.catalogue.kinds
    assert kinds is not None
    return kinds.features(kinds.of[items].astype(np.int64), engine.catalogue.width)


def _holding(fields: frozenset[str]) -> PolicyOptions:
    """Return a policy that changes no list and has the catalogue hold exact values of these fields."""
    return PolicyOptions(caps=tuple(Cap(one, SIZE * 10, SIZE * 10 + 1) for one in sorted(fields)))


def _mean(values: list[float]) -> float | None:
    """Return the mean of the values that are numbers; None if there are none: a log whose items nobody described."""
    known = [value for value in values if not np.isnan(value)]
    return round(float(np.mean(known)), 5) if known else None


def _gains(ranks: list[float]) -> F64:
    places = np.array(ranks)
    return np.where(places <= PLACES, 1 / np.log2(1 + np.minimum(places, PLACES)), 0.0)


def _error_by_user(lead: F64, users: I64) -> float:
    """Return the standard error of a mean over cases that come in users."""
    sums = np.bincount(users, lead - lead.mean())
    return float(np.sqrt((sums**2).sum()) / len(lead))


def _gini(counts: I64) -> float:
    """Return the Gini coefficient of counts (N,)."""
    ordered = np.sort(counts).astype(np.float64)
    n, total = len(ordered), ordered.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total else 0.0


def _divergence(history: Mapping[str, float], listed: Mapping[str, float]) -> float:
    """Return Σ p log₂(p / q̃) with q̃ = 0.99 q + 0.01 p (Steck 2018); NaN without categories on either side."""
    if not history or not listed:
        return np.nan
    return float(sum(p * np.log2(p / (0.99 * listed.get(category, 0.0) + 0.01 * p)) for category, p in history.items()))


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--data", nargs="+", choices=[*NAMED], default=list(DATA), metavar="NAME", help=f"default: {', '.join(DATA)}")
    parser.add_argument("--events", type=int, default=0, metavar="N", help="read only the first N events of each (default: all)")
    parser.add_argument("--targets", type=int, default=3_000, help="targets that are listed, of the newest 60 %% (default: 3,000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the recipe's training (default: 0)")
    parser.add_argument("--check", action="store_true", help="end with 1 if difference costs too much")
    arguments = parser.parse_args()
    if arguments.targets < 100 or arguments.events < 0:
        print("homepage: --targets must be at least 100, --events at least 0", file=sys.stderr)
        return 2
    found: dict[str, dict[str, dict[str, Any]]] = {}
    rows: list[tuple[str, ...]] = []
    try:
        for name in dict.fromkeys(arguments.data):
            page = Homepage(name, arguments.events, arguments.targets, arguments.seed)
            page.run()
            for stage, state, figures in page.figures():
                found.setdefault(name, {}).setdefault(stage, {})[state] = figures
                if state == "on" or stage == ALL_STAGES[0]:
                    rows.append((name, stage if state == "on" else "none", *_row(figures)))
    except (BadFile, DatasetMissing) as error:
        print(f"homepage: {error}", file=sys.stderr)
        return 2
    columns = ("data", "stage", "NDCG@10", "recall@10", "coverage", "Gini", "diversity", "calibration", "µs a list")
    what = f"{arguments.targets:,} targets of the newest 60 %, recipe of the oldest 40 %, seed {arguments.seed}"
    emit("homepage", what, columns, rows, {"seed": arguments.seed, "targets": arguments.targets, **found}, as_json=arguments.json)
    short = [line for name, stages in found.items() for line in missed(name, stages)]
    for line in short if arguments.check else ():
        print(f"homepage: {line}", file=sys.stderr)
    return 1 if short and arguments.check else 0


def missed(name: str, stages: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> Iterator[str]:
    """Yield what a log's stages miss: `DIFFERS` times the difference of lists, for at least `KEEPS` times their NDCG@10, by one of the
    stages that make lists differ. Logs without described items have no difference."""
    reached = []
    for stage in ("mmr", "dpp"):
        off, on = stages[stage]["off"], stages[stage]["on"]
        if off["diversity"] and on["diversity"] and off["ndcg@10"] and on["ndcg@10"]:
            reached.append((stage, on["diversity"] / off["diversity"], on["ndcg@10"] / off["ndcg@10"]))
    if reached and not any(differs >= DIFFERS and keeps >= KEEPS for _, differs, keeps in reached):
        said = ", ".join(f"{stage} {differs:.3f} times the difference for {keeps:.3f} times NDCG@10" for stage, differs, keeps in reached)
        yield f"{name}: {said}; at least {DIFFERS:g} and {KEEPS:g} must be"


def _row(figures: Mapping[str, float | None]) -> Iterator[str]:
    error = f" ± {figures['ndcg@10_lead_error']:.4f}" if "ndcg@10_lead_error" in figures else ""
    yield f"{figures['ndcg@10']:.4f}{error}"
    for name in ("recall@10", "coverage", "gini", "diversity", "calibration"):
        yield "–" if figures[name] is None else f"{figures[name]:.4f}"
    yield f"{figures['us_a_list']:.1f}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_benchmark(main)
