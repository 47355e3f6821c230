"""Compare the settings that `recsys init` writes with the defaults, on the made-up data of each scenario.

Examples:
    python -m benchmarks.scenarios
    python -m benchmarks.scenarios --scenario news --seed 2 --json

Test-then-learn over the whole data in time order: before an event is learnt, its user's list is made at that moment, as `recsys worker
stream` makes it with these settings: touch policy, rules, freshness, caps and all. The recipe is trained once, after 40 % of the targets;
no models. A target is the first event of a user with an item in a visit in which that user chooses it (an event of CHOICES), if the user
did anything before; the newest 60 % are judged. Beside both, what is popular now: decayed counts of events, whose half-life is chosen on
the oldest 40 %, as is whether the user's own items are left out. The interval (95 %) is a paired bootstrap by user of the difference in
NDCG at 10, seed 0.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.figures import benchmark_parser, run_benchmark
from recsys.engine import Engine
from recsys.errors import TooFewInteractions
from recsys.evaluation.significance import Difference, paired
from recsys.recipe.budget import TrainOptions
from recsys.recipe.replay import Log
from recsys.recipe.train import train_recipe
from recsys.state.event_weights import event_weights
from recsys.state.interactions import Interactions
from recsys.state.shown import ShownEvents
from recsys.state.user_table import quantise_weights
from schemas import Item
from schemas.events import EventType
from workers.lists.engine_config import engine_config, engine_config_of
from workers.lists.item_content import content_of
from workers.operations.sample_data.files import SAMPLES, sample_of
from workers.operations.sample_data.world import Sample
from workers.operations.scenarios import settings_file
from workers.plugins import load_plugins
from workers.settings import Settings, load_settings
from workers.state.event_weights import weight_table

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

END_S = 1_796_028_400
"""The made-up data end here, at noon on 30 November 2026."""
CHOICES = {
    "shop": (EventType.ADD_TO_CART, EventType.PURCHASE),
    "video": (EventType.CLICK,),
    "news": (EventType.CLICK,),
    "social": (EventType.CLICK, EventType.LIKE),
}
"""Event types that are targets: what the service wants to happen because of a page."""
PLACES = 10
OLDEST = 0.4
"""Share of the targets that judge nothing, after which the recipe is trained."""
LEAST_EVENTS = 1_000
"""On fewer events no recipe is trained, as by `trainer.min_events`."""
HALF_LIVES_H = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
IMPRESSION = EventType.IMPRESSION.code


@dataclass(frozen=True, slots=True, eq=False)
class Happened:
    """A sample as arrays, events in order of time: (n,) numbers of users and items, seconds, codes of types, values; which are targets."""

    sample: Sample
    items: list[Item]
    users: I64
    numbers: I64
    times_s: I64
    types: NDArray[np.int8]
    values: F64
    is_target: Bools

    @classmethod
    def of(cls, name: str, sample: Sample) -> Happened:
        items = [item_of(record) for record in sample.items]
        number = {item.item_id: place for place, item in enumerate(items)}
        user = {record["user_id"]: place for place, record in enumerate(sample.users)}
        events = sample.events
        users = np.array([user[event["user_id"]] for event in events], np.int64)
        types = np.array([EventType(event["type"]).code for event in events], np.int8)
        counts = types != IMPRESSION
        is_target = _targets(events, {one.value for one in CHOICES[name]})
        first = {int(users[place]): place for place in reversed(np.flatnonzero(counts).tolist())}
        is_target &= np.array([place > first.get(int(one), len(users)) for place, one in enumerate(users)])
        values = np.array([np.nan if event["value"] is None else event["value"] for event in events], np.float64)
        numbers = np.array([number[event["item_id"]] for event in events], np.int64)
        return cls(sample, items, users, numbers, np.array([event["event_ts_ms"] for event in events], np.int64), types, values, is_target)

    @property
    def targets(self) -> I64:
        return np.flatnonzero(self.is_target)

    @property
    def n_oldest(self) -> int:
        """Return how many targets, the oldest, judge nothing."""
        return int(OLDEST * len(self.targets))

    @property
    def judged(self) -> I64:
        return self.targets[self.n_oldest :]


def _targets(events: Sequence[Mapping[str, Any]], choices: set[str]) -> Bools:
    """Return which events, (n,), are the first with their item in a visit that goes on to choose it: what the page had to show."""
    first: dict[tuple[str, str], int] = {}
    is_target = np.zeros(len(events), np.bool_)
    for place, event in enumerate(events):
        if event["type"] != EventType.IMPRESSION:
            began = first.setdefault((event["session"], event["item_id"]), place)
            is_target[began] |= event["type"] in choices
    return is_target


def item_of(record: Mapping[str, Any]) -> Item:
    """Return the item that `recsys import` makes of a record. A sold-out one counts as available: it was, when it was chosen."""
    known = {"item_id", "title", "categories", "available", "published_ts_ms", "expires_ts_ms"}
    others = {name: value for name, value in record.items() if name not in known and value is not None}
    times = {name: record[name] * 1000 for name in ("published_ts_ms", "expires_ts_ms") if record.get(name) is not None}
    fields = {"item_id": record["item_id"], "title": record["title"], "categories": str(record["categories"]).split("|"), **times}
    fields["numeric_attributes"] = {name: value for name, value in others.items() if not isinstance(value, str)}
    fields["categorical_attributes"] = {name: value for name, value in others.items() if isinstance(value, str)}
    return Item.model_validate_json(json.dumps(fields))


class Replay:
    """Makes the list of each target with some settings, then learns the event."""

    def __init__(self, happened: Happened, settings: Settings) -> None:
        self.happened, self.settings = happened, settings
        self.engine = engine = Engine(engine_config(settings))
        self._contents = {number: content_of(item) for number, item in enumerate(happened.items)}
        engine.ensure_items(len(happened.items))
        engine.name_items([item.item_id for item in happened.items])
        for number, content in self._contents.items():
            engine.describe_item(number, content)
        engine.neighbours.hold_all()
        self.ids = [record["user_id"] for record in happened.sample.users]
        engine.users.load(dict.fromkeys(self.ids))
        self.slots = np.array([engine.users.slot(user_id) for user_id in self.ids], np.int64)
        weights = event_weights(happened.types, happened.values, weight_table(settings))
        self._weights = quantise_weights(weights)

    def ranks(self) -> F64:
        """Return the place of each judged target on its list, infinite where it is not on it."""
        happened, first = self.happened, self.happened.judged[0]
        found = []
        for event in range(len(happened.users)):
            if event == first:
                self._train(event)
            if happened.is_target[event] and event >= first:
                found.append(self._rank(event))
            self.learn(event, event + 1)
        return np.array(found)

    def _rank(self, event: int) -> float:
        happened, engine, now_s = self.happened, self.engine, int(self.happened.times_s[event])
        user = int(happened.users[event])
        slots, seeds = self.slots[user : user + 1], np.array([event], np.int64)
        engine.advance_time(now_s)
        lists = engine.recommend(slots, engine.encode(slots, now_s), now_s, seeds, user_ids=[self.ids[user]])
        place = np.flatnonzero(lists.items[0] == happened.numbers[event])
        return float(place[0]) + 1 if len(place) else np.inf

    def learn(self, start: int, end: int) -> None:
        """Learn some events at once, and what was shown between them."""
        events = np.arange(start, end)[np.argsort(self.happened.users[start:end], kind="stable")]
        is_shown = self.happened.types[events] == IMPRESSION
        counting = events[self._weights[events] != 0]
        if len(counting):
            derived = self.engine.derive(Interactions(*self._columns(counting), *self._of_events(counting)))
            self.engine.learn_histories(derived)
            self.engine.learn_items(derived.delta(self.engine.config))
        if len(shown := events[is_shown | (self._weights[events] != 0)]):
            self.engine.learn_shown(ShownEvents(*self._columns(shown), self.happened.types[shown] == IMPRESSION))

    def _columns(self, events: I64) -> tuple[I64, I64, NDArray[np.uint32], NDArray[np.uint32]]:
        """Return slots of users, numbers of their events, items and times."""
        users, counts = np.unique(self.happened.users[events], return_counts=True)
        times_s = self.happened.times_s[events].astype(np.uint32)
        return self.slots[users], counts.astype(np.int64), self.happened.numbers[events].astype(np.uint32), times_s

    def _of_events(self, events: I64) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int32], I64]:
        return self._weights[events], self.happened.types[events], np.zeros(len(events), np.int32), events

    def _train(self, event: int) -> None:
        happened, part = self.happened, slice(event)
        kept = np.flatnonzero(self._weights[part] != 0)
        if len(kept) < LEAST_EVENTS:
            return
        log = Log(
            happened.users[kept], happened.numbers[kept], happened.times_s[kept], self._weights[kept], self._contents, happened.types[kept]
        )
        config = engine_config_of(self.settings.state, self.settings.lists, load_plugins())
        try:
            self.engine.use_recipe(train_recipe(config, log, TrainOptions(), self.engine.recipe))
        except TooFewInteractions as error:
            print(f"no recipe after {event:,} events: {error}", file=sys.stderr)


def popular_now(happened: Happened) -> F64:
    """Return the ranks of the judged targets among what is popular now, with constants that do best on the oldest targets."""
    found, n_oldest = _popular(happened), happened.n_oldest
    best: F64 = max(found, key=lambda ranks: float(gains(ranks[:n_oldest]).sum()))[n_oldest:]
    return best


def _popular(happened: Happened) -> F64:
    """Return ranks (V, T) by each half-life, with the user's own items and without them."""
    counts, at_s = np.zeros((len(HALF_LIVES_H), len(happened.items))), happened.times_s[0]
    published = np.array([(item.published_ts_ms or 0) // 1000 for item in happened.items])
    expires = np.array([(item.expires_ts_ms or 2**60) // 1000 for item in happened.items])
    own = np.zeros((len(happened.sample.users), len(happened.items)), np.bool_)
    half_lives_s = np.array(HALF_LIVES_H)[:, None] * 3_600.0
    ranks = []
    for event in np.flatnonzero(happened.types != IMPRESSION):
        user, item, now_s = happened.users[event], happened.numbers[event], happened.times_s[event]
        counts *= 0.5 ** ((now_s - at_s) / half_lives_s)
        at_s = now_s
        if happened.is_target[event]:
            live = (published <= now_s) & (now_s < expires)
            listed = np.concatenate([np.where(live, counts, -1.0), np.where(live & ~own[user], counts, -1.0)])
            mine = listed[:, item]
            ranks.append(np.where(mine > 0, 1.0 + (listed > mine[:, None]).sum(axis=1), np.inf))
        counts[:, item] += 1
        own[user, item] = True
    return np.array(ranks).T


def gains(ranks: F64) -> F64:
    """Return the NDCG at 10 of each target, which is the only relevant item."""
    return np.where(ranks <= PLACES, 1 / np.log2(1 + np.maximum(ranks, 1)), 0.0)


def scenario_settings(name: str) -> Settings:
    """Return the settings that `recsys init` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recsys.toml"
        path.write_text(settings_file(name), "utf-8")
        return _settings(str(path))


def _settings(path: str) -> Settings:
    before = os.environ.get("RECSYS_CONFIG")
    os.environ["RECSYS_CONFIG"] = path
    try:
        return load_settings()
    finally:
        if before is None:
            del os.environ["RECSYS_CONFIG"]
        else:
            os.environ["RECSYS_CONFIG"] = before


@dataclass(frozen=True, slots=True)
class Figures:
    """What one scenario gave on its newest 60 % of targets: by ranker, recall and NDCG at 10; the difference of `init` and defaults."""

    name: str
    n_targets: int
    by_ranker: dict[str, dict[str, float]]
    difference: Difference

    def as_json(self) -> dict[str, Any]:
        of_init = self.difference
        return {"targets": self.n_targets, **self.by_ranker, "difference": of_init.mean, "interval": [of_init.low, of_init.high]}


def measure(name: str, seed: int) -> Figures:
    """Return the figures of a scenario, of the data of this seed."""
    happened = Happened.of(name, sample_of(name, END_S, seed))
    ranks = {
        "popular now": popular_now(happened),
        "defaults": Replay(happened, _settings(os.devnull)).ranks(),
        "init": Replay(happened, scenario_settings(name)).ranks(),
    }
    figures = {
        ranker: {"recall@10": float((one <= PLACES).mean()), "ndcg@10": float(gains(one).mean())} for ranker, one in ranks.items()
    }
    difference = paired(gains(ranks["init"]), gains(ranks["defaults"]), happened.users[happened.judged])
    return Figures(name, len(happened.judged), figures, difference)


def show(figures: Figures) -> None:
    """Print the table of one scenario."""
    table = Table(title=f"{figures.name}: {figures.n_targets:,} targets", title_justify="left")
    for column in ("", "recall@10", "NDCG@10"):
        table.add_column(column, justify="left" if not column else "right")
    for ranker, found in figures.by_ranker.items():
        table.add_row(ranker, f"{found['recall@10']:.4f}", f"{found['ndcg@10']:.4f}")
    of_init = figures.difference
    Console(width=140).print(table, f"init less defaults, NDCG@10: {of_init.mean:+.4f} ({of_init.low:+.4f} to {of_init.high:+.4f})")


def main() -> int:
    """Measure, and return 1 if the settings of a scenario are worse than the defaults beyond chance."""
    parser = benchmark_parser(__doc__)
    parser.prog = "python -m benchmarks.scenarios"
    parser.add_argument("--scenario", action="append", choices=[*SAMPLES], metavar="NAME", help="shop, video, news or social")
    parser.add_argument("--seed", type=int, default=1, help="seed of the data; that of `recsys init`, by which settings were chosen, is 0")
    arguments = parser.parse_args()
    found = {}
    for name in arguments.scenario or SAMPLES:
        found[name] = measure(name, arguments.seed)
        if not arguments.json:
            show(found[name])
    if arguments.json:
        print(json.dumps({name: figures.as_json() for name, figures in found.items()}))
    return int(any(figures.difference.high < 0 for figures in found.values()))


if __name__ == "__main__":
    run_benchmark(main)
