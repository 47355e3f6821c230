"""Measure lists of users of whom little is known: a profile and no event, and then one, two and five events.

Examples:
    RECSYS_DATA=… python -m benchmarks.cold
    RECSYS_DATA=… python -m benchmarks.cold --users 500 --json
    RECSYS_DATA=… python -m benchmarks.cold --check

Data: the five-star ratings of MovieLens 1M, in order of time, with gender, age group and occupation of each user. Users are in the order of
their first event. Of everything before the first event of the user at 45 % segments and the recipe are learnt; from there to the user at
60 % the recipe learns how much segments count, and which half-life of recent popularity is best; then segments are learnt again of
everything before the user at 60 %. The other users judge (--users: so many of them, evenly chosen, of those with ten events or more). The
log is replayed through the product's engine, point in time. Nothing is tuned for this log.

Two questions, with the recall and the NDCG of the first ten places:
    start    before the first event: which of the user's first ten items are on the list. Popularity, recent popularity, the list without
             the profile, with the profile of another judging user, and with the user's own. `hit_rate@10`: one of them or more.
    profile  before the first event and after 1, 2 and 5: which of the user's sixth to fifteenth items are on the list. The first five are
             left out of every list, so that all lists answer the same question and differ only in what is known.
Intervals are of 95 %, by bootstrap over users.

--check exits 1 unless, in recall and NDCG, the first list is above popularity with its interval for the first question and on average for
the second, and each of the lists after 1, 2 and 5 events is above the one before on average.
"""

from __future__ import annotations

import csv
import lzma
import os
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import DatasetMissing, data_folder, movielens_1m
from benchmarks.figures import benchmark_parser, emit, run_benchmark
from benchmarks.streams.lists import list_config
from benchmarks.streams.log import BadFile, named_log
from recsys.engine import EngineConfig
from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.fit import Likes, fit
from recsys.models.segments.model import SegmentsModel
from recsys.recipe.budget import TrainOptions
from recsys.recipe.replay import Log, Replay, Serving, evenly, with_beginnings
from recsys.recipe.train import train_recipe, with_model_weights
from recsys.state.half_lives import HALF_LIVES_S
from recsys.state.profiles import Profile, ProfileColumns
from recsys.state.user_table import quantise_weights

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DATA = "ml-1m"
FIRST, SECOND = 0.45, 0.6
"""Shares of the users, by their first event, at which learning ends and judging begins."""
PLACES = 10
KNOWN = (0, 1, 2, 5)
"""Events of a user after which there is a list."""
SKIPPED, TARGETS = 5, 10
"""Items of a user that no list of the second question may count, and those that it asks for; the first question asks for the first ten."""
LEAST_EVENTS = 10
TOPS = 60
RESAMPLES = 2_000
LISTS = {0: "first", 1: "after_1", 2: "after_2", 5: "after_5"}
Gains = dict[str, list[tuple[float, float, float]]]
"""By name of a list, for each user: recall and NDCG of the first ten places, and 1 for a hit, else 0."""


def profiles_of(user_ids: list[str]) -> list[Profile]:
    """Return the profiles of these users. Raises: DatasetMissing."""
    path = data_folder() / "movielens-users" / "ml-1m-users.csv.xz"
    if not path.is_file():
        raise DatasetMissing("RECSYS_DATA has no movielens-users/ml-1m-users.csv.xz")
    with lzma.open(path, "rt") as lines:
        rows = {row["user_id"]: row for row in csv.DictReader(lines)}
    names = ("gender", "age_group", "occupation")
    return [Profile({name: rows[user][name] for name in names}, {}, ()) for user in user_ids]


class Cold:
    """Lists of the newest users of the log."""

    def __init__(self, n_users: int, seed: int) -> None:
        given = named_log(DATA)
        profiles = profiles_of(list(dict.fromkeys(movielens_1m(5.0).users)))
        contents = {number: given.content[item_id] for number, item_id in enumerate(given.item_ids) if item_id in given.content}
        self.item_ids, self.seed = given.item_ids, seed
        self.columns, self.attributes = ProfileColumns.of(profiles), {one.key: one for p in profiles for one, _ in p.attributes()}
        self.log = Log(given.users, given.items, given.times_s, quantise_weights(given.weights), contents, given.types, self.columns)
        order = np.argsort(self.log.users, kind="stable")  # users are numbered in the order of their first events
        self.starts = np.searchsorted(self.log.users[order], np.arange(given.n_users + 1))
        self.events = order
        self.weighing_from, self.judging_from = (int(share * given.n_users) for share in (FIRST, SECOND))
        enough = np.flatnonzero(np.diff(self.starts) >= LEAST_EVENTS)
        self.weighing = enough[(enough >= self.weighing_from) & (enough < self.judging_from)]
        self.judging = evenly(enough[enough >= self.judging_from], n_users or len(enough))
        self.config = list_config(EngineConfig(), seed)
        self.config = replace(self.config, source_weights={**self.config.source_weights, "segments": 1.0}, list_size=TOPS)

    def first_event(self, user: int) -> int:
        """Return the place of a user's first event in the log."""
        return int(self.events[self.starts[user]])

    def segments(self, end: int) -> SegmentsModel:
        """Return the segments of the events before `end`."""
        liked = np.flatnonzero(self.log.weights[:end] > 0)
        pairs = self.log.users[liked] * len(self.item_ids) + self.log.items[liked]
        once = liked[np.unique(pairs, return_index=True)[1]]
        likes = Likes(self.log.users[once], self.log.items[once], once)
        return fit(likes, self.columns, self.attributes, self.item_ids, SegmentsConfig(seed=self.seed))

    def run(self) -> tuple[Gains, Gains]:
        """Return the gains of all lists of the judging users, for both questions."""
        first, second = self.first_event(self.weighing_from), self.first_event(self.judging_from)
        numbers = {item: number for number, item in enumerate(self.item_ids)}
        options = TrainOptions(seed=self.seed)
        recipe = train_recipe(self.config, self.log.first(first), options)
        targets = self.log.targets()
        between = targets[(targets >= first) & (targets < second)]
        serving = Serving({"segments": self.segments(first)}, numbers)
        chosen = with_beginnings(self.log, between, options.cases)
        recipe = with_model_weights(self.config, self.log.first(second), chosen, recipe, serving, options)
        self.weights = {name: pair for name, pair in recipe.extras.items() if name.startswith("segments")}
        replayed = Replay(self.config, self.log, Serving({"segments": self.segments(second)}, numbers))
        replayed.engine.use_recipe(recipe)
        return self._judge(replayed)

    def _judge(self, replayed: Replay) -> tuple[Gains, Gains]:
        known: dict[int, tuple[int, int]] = {}
        for user in np.concatenate([self.weighing, self.judging]).tolist():
            for n_known in KNOWN if user >= self.judging_from else KNOWN[:1]:
                known[int(self.events[self.starts[user] + n_known])] = user, n_known
        strangers = dict(zip(self.judging.tolist(), np.random.default_rng(self.seed).permutation(self.judging).tolist(), strict=True))
        start, profile, by_half_life = Gains(), Gains(), list[F64]()
        recent: int | None = None
        for event, slot, now_s in replayed.moments(np.array(sorted(known))):
            user, n_known = known[event]
            items = self.log.items[self.events[self.starts[user] : self.starts[user + 1]]]
            early, late = items[:TARGETS], items[SKIPPED : SKIPPED + TARGETS]
            tops = replayed.engine.popularity.tops(TOPS) if n_known == 0 else None
            if user < self.judging_from:
                assert tops is not None
                by_half_life.append(np.array([_gain(top, early)[1] for top in tops]))
                continue
            recent = int(np.argmax(np.mean(by_half_life, axis=0)[:-1])) if recent is None else recent
            own = self._list(replayed, slot, user, now_s)
            if tops is not None:
                popular = {"popularity": tops[-1], "recent_popularity": tops[recent]}
                others = {
                    "no_profile": self._list(replayed, slot, None, now_s),
                    "stranger": self._list(replayed, slot, strangers[user], now_s),
                }
                for name, listed in {**popular, **others, "first": own}.items():
                    start.setdefault(name, []).append(_gain(listed, early))
                for name, listed in popular.items():
                    profile.setdefault(name, []).append(_gain(_without(listed, items[:SKIPPED]), late))
            profile.setdefault(LISTS[n_known], []).append(_gain(_without(own, items[:SKIPPED]), late))
        self.half_life_s = HALF_LIVES_S[recent or 0]
        return start, profile

    def _list(self, replayed: Replay, slot: int, user: int | None, now_s: int) -> I64:
        """Return the list of the user in `slot` with the profile of `user`; None: with none. The profile stays there."""
        table = replayed.engine.users.hold_profiles()
        if user is None:
            table.put(slot, None, 1)
        else:
            table.take(slot, self.columns, user)
        slots = np.array([slot])
        listed: I64 = replayed.engine.recommend(slots, replayed.engine.encode(slots), now_s).items[0]
        return listed[listed >= 0]


def _without(listed: I64, items: I64) -> I64:
    return listed[~np.isin(listed, items)]


def _gain(listed: I64, targets: I64) -> tuple[float, float, float]:
    """Return recall and NDCG of the first ten places, and whether there is a hit."""
    hits = np.isin(listed[:PLACES], targets).astype(np.float64)
    discounts = 1 / np.log2(2 + np.arange(PLACES))
    best = discounts[: min(len(targets), PLACES)].sum()
    return float(hits.sum() / min(len(targets), PLACES)), float(hits @ discounts[: len(hits)] / best), float(hits.any())


def _lead(gains: Gains, name: str, over: str, metric: int, seed: int) -> tuple[float, float, float]:
    """Return the mean lead of one list over another, and the ends of its interval of 95 %."""
    lead = np.array([own[metric] - other[metric] for own, other in zip(gains[name], gains[over], strict=True)])
    random = np.random.default_rng(seed)
    means = lead[random.integers(len(lead), size=(RESAMPLES, len(lead)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(lead.mean()), float(low), float(high)


def failures(start: Gains, profile: Gains, seed: int) -> list[str]:
    """Return what does not hold of first lists and of those after each event."""
    found = []
    for place, metric in enumerate(("recall@10", "ndcg@10")):
        for question, gains in (("start", start), ("profile", profile)):
            lead, low, _ = _lead(gains, "first", "popularity", place, seed)
            if (low if question == "start" else lead) <= 0:
                found.append(f"{question}: {metric} of the first list leads popularity by {lead:.4f}, at least {low:.4f}")
        means = {name: float(np.mean([gain[place] for gain in profile[name]])) for name in LISTS.values()}
        for (before, less), (after, more) in zip(means.items(), list(means.items())[1:], strict=False):
            if more <= less:
                found.append(f"profile: {metric} of {after}, {more:.4f}, is not above {before}, {less:.4f}")
    return found


def _figures(gains: Gains, seed: int) -> dict[str, dict[str, float | list[float]]]:
    found: dict[str, dict[str, float | list[float]]] = {}
    for name, values in gains.items():
        recall, ndcg, hits = np.mean(values, axis=0).tolist()
        found[name] = {"recall@10": round(recall, 5), "ndcg@10": round(ndcg, 5), "hit_rate@10": round(hits, 5)}
        if name != "popularity":
            lead = _lead(gains, name, "popularity", 1, seed)
            found[name]["ndcg@10_lead_over_popularity"] = [round(one, 5) for one in lead]
    return found


def _rows(question: str, figures: Mapping[str, Mapping[str, float | list[float]]]) -> list[tuple[str, ...]]:
    rows = []
    for name, of_list in figures.items():
        lead = of_list.get("ndcg@10_lead_over_popularity")
        said = f"{lead[0]:+.4f} ({lead[1]:+.4f} to {lead[2]:+.4f})" if isinstance(lead, list) else "–"
        rows.append((question, name, *(f"{of_list[metric]:.4f}" for metric in ("recall@10", "ndcg@10", "hit_rate@10")), said))
    return rows


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--users", type=int, default=0, metavar="N", help="judge N of the newest users, evenly chosen (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training, the strangers and the bootstrap (default: 0)")
    parser.add_argument("--check", action="store_true", help="exit 1 unless profiles and each event make lists better")
    arguments = parser.parse_args()
    if arguments.users < 0 or 0 < arguments.users < 100:
        print("cold: --users must be 100 or more", file=sys.stderr)
        return 2
    try:
        cold = Cold(arguments.users, arguments.seed)
        start, profile = cold.run()
    except (BadFile, DatasetMissing) as error:
        print(f"cold: {error}", file=sys.stderr)
        return 2
    by_question = {"start": _figures(start, arguments.seed), "profile": _figures(profile, arguments.seed)}
    rows = [row for question, figures in by_question.items() for row in _rows(question, figures)]
    columns = ("question", "list", "recall@10", "NDCG@10", "hit rate@10", "NDCG@10 over popularity")
    what = f"{DATA}, {len(cold.judging):,} newest users, seed {arguments.seed}"
    extra = {"seed": arguments.seed, "users": len(cold.judging), "weights": cold.weights, "half_life_s": cold.half_life_s}
    emit("cold", what, columns, rows, {**extra, DATA: by_question}, as_json=arguments.json)
    wrong = failures(start, profile, arguments.seed) if arguments.check else []
    for line in wrong:
        print(f"cold: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_benchmark(main)
