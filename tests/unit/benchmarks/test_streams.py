"""`benchmarks.streams`: targets and ranks by hand, baselines against plain Python, lists against one engine call at a time, and files."""

from __future__ import annotations

import gzip
import json
import lzma
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks.streams import __main__ as command
from benchmarks.streams import baselines, kernels, measure, training
from benchmarks.streams.kernels import MOST_USERS, NEWEST, WINDOW
from benchmarks.streams.limits import missed
from benchmarks.streams.lists import ListStream, list_config, mean_rank
from benchmarks.streams.log import BadFile, Log, made_log, read_items, read_log
from benchmarks.streams.protocol import AGAIN, DISCOVERY, PROTOCOLS, Stream, recalls
from benchmarks.streams.report import COLUMNS, JUDGED, Figures
from recsys.engine import Engine, EngineConfig
from recsys.lists.default_recipe import default_recipe
from recsys.lists.recipe import Recipe
from recsys.recipe.budget import TrainOptions
from recsys.recipe.replay import Log as ReplayLog
from recsys.state.interactions import Interactions
from recsys.state.user_table import quantise_weights
from tests.builders import learn


def log_of(events: str, weights: Iterable[float] | None = None) -> Log:
    """A log of events such as "1a 2b", user and item, ten seconds apart."""
    users, items = zip(*((word[0], word[1:]) for word in events.split()), strict=True)
    times_s = 1_600_000_000 + 10 * np.arange(len(users), dtype=np.int64)
    return made_log("made", users, items, times_s, np.array([1.0] * len(users) if weights is None else [*weights], np.float32))


def random_log(seed: int, n_events: int = 400, n_users: int = 12, n_items: int = 30) -> Log:
    random = np.random.default_rng(seed)
    users, items = random.integers(0, n_users, n_events), (random.random(n_events) ** 2 * n_items).astype(np.int64)
    return log_of(" ".join(f"{chr(65 + user)}i{item}" for user, item in zip(users.tolist(), items.tolist(), strict=True)))


def places(stream: Stream, protocol: str) -> list[int]:
    return stream.targets(protocol).tolist()


def test_targets_of_discovery_are_new_to_their_user_and_known_to_somebody_and_those_of_again_are_repeats() -> None:
    #                        0  1  2  3  4  5  6  7
    stream = Stream.of(log_of("1a 2a 1b 2b 2b 3c 3a 1a"))
    # 1 is 2's first event, 2 an item's, 5 both
    assert places(stream, "discovery") == [3, 6]
    assert places(stream, "again") == [4, 7]


def test_dislikes_and_impressions_are_no_touches_and_leave_the_protocol_as_it_was() -> None:
    plain = Stream.of(log_of("1a 2a 1b 2b 2b 3c 3a 1a"))
    mixed = Stream.of(log_of("1x 1a 2a 3a 1b 2b 2b 2x 3c 3a 1a", [-1, 1, 1, 0, 1, 1, 1, -1, 1, 1, 1]))
    assert mixed.touches.kinds.tolist() == plain.touches.kinds.tolist()
    assert mixed.touches.items.tolist() == plain.touches.items.tolist()
    assert mixed.log.item_ids == ["a", "b", "c", "x"], "numbers go by first touch"


def test_popularity_ranks_by_hand_with_ties() -> None:
    stream = Stream.of(log_of("1a 2a 3b 4c 3a 5d 5b 5c 3c 3a"))
    found = baselines.baselines(stream)
    # 3a: a 2, c 1; b is 3's own ▸ 1. 5b: a 3, b 1, c 1; d is own ▸ 2, 3 share 2.5. 5c: a 3, c 1 ▸ 2. 3c: c 2, d 1 ▸ 1
    assert found["discovery"]["popularity"].ranks.tolist() == [1.0, 2.5, 2.0, 1.0]
    # 3a again, nothing left out: a 3, b 2, c 3, d 1 ▸ 1 and 2 share 1.5
    assert found["again"]["popularity"].ranks.tolist() == [1.5]
    assert found["again"]["own_most_frequent"].ranks.tolist() == [2.0], "a, b and c once each"
    assert found["again"]["own_most_recent"].ranks.tolist() == [2.0], "c, a, b"


def test_decayed_popularity_by_hand() -> None:
    #                        0  1  2  3  4
    stream = Stream.of(log_of("1a 2a 3b 4c 4b"))
    ranks = {half_life: baselines._decayed(stream, "events", half_life, False, 5)[4] for half_life in (0.5, 1.0, 100.0)}
    # before 4b, with c left out: a has 2^(0/h) + 2^(1/h), b 2^(2/h)
    assert ranks == {0.5: 1.0, 1.0: 1.0, 100.0: 2.0}


def test_decay_survives_gaps_of_thousands_of_half_lives() -> None:
    times_s = 1_600_000_000 + np.array([0, 10, 20, 10_000_000, 10_000_010], np.int64)
    stream = Stream.of(made_log("made", [*"12343"], [*"aabca"], times_s, np.ones(5, np.float32)))
    ranks = {half_life: baselines._decayed(stream, "hours", half_life, False, 5)[4] for half_life in (0.001, 0.25, 1e6)}
    assert ranks == {0.001: 2.0, 0.25: 2.0, 1e6: 1.0}, "c is new, a has two touches"


def by_score(scores: dict[str, float], items: Iterable[str], target: str) -> tuple[float, float]:
    """The lowest and the highest rank that rounding may give: ties of zeros are exact, others only where sums are."""
    mine, others = scores.get(target, 0.0), [scores.get(item, 0.0) for item in items if item != target]
    near = [abs(other - mine) < 1e-5 * mine for other in others]
    lowest = (
        1.0
        + sum(other > mine and not same for other, same in zip(others, near, strict=True))
        + sum(other == mine == 0 for other in others) / 2
    )
    return lowest, lowest + sum(near)


def plain_ranks(
    log: Log, score: Callable[[str, dict[str, list[str]], dict[str, set[str]]], dict[str, float]]
) -> dict[int, tuple[float, float]]:
    """Ranks of all targets by a function of the user, all users' sequences and the users of each item."""
    sequences: dict[str, list[str]] = defaultdict(list)
    users_of: dict[str, set[str]] = defaultdict(set)
    ranks = {}
    for place, (user, number) in enumerate(zip(log.users.tolist(), log.items.tolist(), strict=True)):
        item = log.item_ids[number]
        mine = sequences[user]
        if item in mine:
            ranks[place] = by_score(score(user, sequences, users_of), list(users_of), item)
        elif mine and users_of[item]:
            ranks[place] = by_score(score(user, sequences, users_of), [one for one in users_of if one not in mine and users_of[one]], item)
        mine.append(item)
        users_of[item].add(user)
    return ranks


def newest_first(sequence: list[str]) -> list[str]:
    return list(dict.fromkeys(reversed(sequence)))


def item_knn(newest: int, itself: bool) -> Callable[..., dict[str, float]]:
    def score(user: str, sequences: dict[str, list[str]], users_of: dict[str, set[str]]) -> dict[str, float]:
        scores: dict[str, float] = defaultdict(float)
        for mine in newest_first(sequences[user])[:newest]:
            for other, users in users_of.items():
                if users and (other != mine or itself):
                    scores[other] += len(users & users_of[mine]) / (len(users) * len(users_of[mine])) ** 0.5
        return scores

    return score


def last_together(*, cosine: bool) -> Callable[..., dict[str, float]]:
    def score(user: str, sequences: dict[str, list[str]], users_of: dict[str, set[str]]) -> dict[str, float]:
        last = sequences[user][-1]
        shared = {one: len(users & users_of[last]) for one, users in users_of.items() if users and one != last}
        return {one: n / len(users_of[one]) ** 0.5 if cosine else float(n) for one, n in shared.items()}

    return score


def user_knn(size: int, itself: bool) -> Callable[..., dict[str, float]]:
    def score(user: str, sequences: dict[str, list[str]], users_of: dict[str, set[str]]) -> dict[str, float]:
        mine = set(sequences[user])
        cosines = {
            one: len(mine & {*theirs}) / (len(mine) * len({*theirs})) ** 0.5 for one, theirs in sequences.items() if one != user and theirs
        }
        scores: dict[str, float] = defaultdict(float)
        for one in sorted(cosines, key=lambda one: -cosines[one])[:size]:
            for item in {*sequences[one]}:
                scores[item] += cosines[one]
        for item in mine if itself else ():
            scores[item] += 1
        return scores

    return score


def transitions(forward: int, backward: float) -> Callable[..., dict[str, float]]:
    def score(user: str, sequences: dict[str, list[str]], users_of: dict[str, set[str]]) -> dict[str, float]:
        last = sequences[user][-1]
        scores: dict[str, float] = defaultdict(float)
        for sequence in sequences.values():
            for place in (place for place, item in enumerate(sequence) if item == last):
                for distance in range(1, forward + 1):
                    if place + distance < len(sequence):
                        scores[sequence[place + distance]] += 1 / distance
                    if place - distance >= 0:
                        scores[sequence[place - distance]] += backward / distance
        return scores

    return score


def assert_same(
    stream: Stream, ranks: np.ndarray, score: Callable[..., dict[str, float]], protocols: Iterable[int], *, exact: bool = False
) -> None:
    """With `exact` scores, such as counts, ties have their mean rank; sums of fractions may break them either way."""
    plain = plain_ranks(stream.log, score)
    assert plain.keys() == set(np.flatnonzero(stream.touches.kinds).tolist())
    checked = {place: bounds for place, bounds in plain.items() if stream.touches.kinds[place] in protocols}
    assert len(checked) > 50
    if exact:
        assert {place: float(ranks[place]) for place in checked} == {place: sum(bounds) / 2 for place, bounds in checked.items()}
    wrong = {place: (float(ranks[place]), bounds) for place, bounds in checked.items() if not bounds[0] <= ranks[place] <= bounds[1]}
    assert wrong == {}


BOTH = (DISCOVERY, AGAIN)


@pytest.mark.parametrize("dense", [True, False], ids=["matrix", "users of items"])
def test_item_knn_and_the_last_item_rank_as_plain_python_does(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "DENSE_ITEMS", 10_000 if dense else 0)
    stream = Stream.of(random_log(1, n_users=8, n_items=60))
    ranks = baselines._cooccurrence(stream)
    assert max(len(set(stream.log.items[stream.log.users == user].tolist())) for user in range(8)) > NEWEST
    assert_same(stream, ranks[:, 0], item_knn(10_000, False), BOTH)
    assert_same(stream, ranks[:, 1], item_knn(NEWEST, False), BOTH)
    assert_same(stream, ranks[:, 2], item_knn(10_000, True), [AGAIN])
    assert_same(stream, ranks[:, 3], item_knn(NEWEST, True), [AGAIN])
    assert_same(stream, ranks[:, 4], last_together(cosine=False), BOTH, exact=True)
    assert_same(stream, ranks[:, 5], last_together(cosine=True), BOTH)


def test_user_knn_ranks_as_plain_python_does_when_all_users_are_neighbours() -> None:
    stream = Stream.of(random_log(2))
    ranks = baselines._users(stream)
    assert_same(stream, ranks[:, 0], user_knn(20, False), BOTH)
    assert_same(stream, ranks[:, 3], user_knn(20, True), [AGAIN])


def test_user_knn_reads_the_most_similar_users() -> None:
    """3 shares two items with 1, one with 2, who has x more."""
    log = log_of("1a 1b 1y 2a 2x 2z 4x 5x 3a 3b 3y")
    stream = Stream.of(log)
    ranks = np.full((len(log), 2), np.inf)
    kernels.user_ranks(stream.touches, np.array([1], np.int64), *baselines._index(stream), ranks)
    assert ranks[10, 0] == 1.0, "only 1 is read: y 0.82, x and z 0"


def test_transitions_rank_as_plain_python_does() -> None:
    stream = Stream.of(random_log(3))
    ranks = baselines._transitions(stream)
    assert len(stream.events) < MOST_USERS
    assert_same(stream, ranks[:, 0], transitions(1, 0.0), BOTH, exact=True)
    assert_same(stream, ranks[:, 1], transitions(WINDOW, 0.0), BOTH)
    assert_same(stream, ranks[:, 2], transitions(WINDOW, 0.5), BOTH)


def test_constants_are_chosen_on_the_oldest_targets_only() -> None:
    stream = Stream.of(random_log(4, 600))
    for protocol in PROTOCOLS:
        oldest, targets = stream.choosing(protocol), stream.targets(protocol)
        assert len(oldest) == int(0.4 * len(targets)) > 20 and oldest.tolist() == targets[: len(oldest)].tolist()
        ranks = np.full((len(stream.events), 2), 30.0)
        ranks[oldest[:2], 1] = ranks[targets[len(oldest) :], 0] = 1.0
        best = baselines._best(stream, protocol, ranks, ["best at the end", "best at the start"])
        assert best.chosen == "best at the start" and best.ranks.tolist() == ranks[targets, 1].tolist()
        part = baselines._decayed(stream, "events", 10.0, False, int(oldest[-1]) + 1)
        whole = baselines._decayed(stream, "events", 10.0, False, len(stream.events))
        assert part[oldest].tolist() == whole[oldest].tolist() and np.isinf(part[oldest[-1] + 1 :]).all()


def test_figures_are_over_all_and_over_the_newest_three_fifths() -> None:
    ranks = np.array([1, 1, 1, 1, 30, 15, 30, 10, 10.5, 30], np.float64)
    assert recalls(ranks) == {"recall@10": 0.5, "recall@20": 0.7, "last60_recall@10": 0.16667, "last60_recall@20": 0.5}
    assert recalls(np.zeros(0)) == {"recall@10": 0.0, "recall@20": 0.0, "last60_recall@10": 0.0, "last60_recall@20": 0.0}


def engine() -> Engine:
    return Engine(list_config(EngineConfig(), seed=0))


def listed(log: Log, batch_events: int) -> tuple[np.ndarray, Engine]:
    made = engine()
    return ListStream(Stream.of(log), made).ranks(batch_events), made


def one_at_a_time(log: Log) -> np.ndarray:
    """Ranks of discovery by an engine that knows all items that were touched, asked and told event by event."""
    made, stream = engine(), Stream.of(log)
    ranks, known = np.full(len(log), np.inf), 0
    for place, (user, item) in enumerate(zip(log.users.tolist(), log.items.tolist(), strict=True)):
        if made.users.slot(f"u{user}") is None:
            made.users.load({f"u{user}": None})
        slot = made.users.slot(f"u{user}")
        at_s = int(log.times_s[place])
        made.advance_time(at_s)  # an event may add nothing, and time goes on
        if stream.touches.kinds[place] == DISCOVERY:
            made.advance_time(at_s)
            lists = made.recommend(np.array([slot]), {}, at_s)
            ranks[place] = mean_rank(lists.items[0], lists.scores[0], item)
        known = max(known, item + 1)
        made.ensure_items(known)
        made.neighbours.hold_all()
        weight = quantise_weights(np.ones(1, np.float32))
        batch = Interactions(
            np.array([slot]),
            np.array([1]),
            np.array([item], np.uint32),
            np.array([at_s], np.uint32),
            weight,
            np.zeros(1, np.int8),
            np.zeros(1, np.int32),
            np.array([place]),
        )
        learn(made, batch)
    return ranks


def test_lists_of_one_event_at_a_time_are_those_of_the_engine() -> None:
    log = random_log(5, 300)
    ranks, _ = listed(log, 1)
    assert np.isfinite(ranks).sum() > 30
    targets = Stream.of(log).targets("discovery")
    assert ranks[targets].tolist() == one_at_a_time(log)[targets].tolist()


def test_a_batch_leaves_the_same_state_and_lists_each_case_with_its_users_exact_history() -> None:
    log = random_log(6, 300, n_users=3)
    _, one = listed(log, 1)
    ranks, many = listed(log, 7)
    for user in range(log.n_users):
        slots = [made.users.slot(f"u{user}") for made in (one, many)]
        assert one.users.pack([slots[0]]) == many.users.pack([slots[1]])
    n = log.n_items
    assert one.popularity.all_time[:n].tolist() == many.popularity.all_time[:n].tolist()
    assert one.neighbours.rows(np.arange(n), n).tolist() == many.neighbours.rows(np.arange(n), n).tolist()
    assert np.isfinite(ranks[Stream.of(log).targets("discovery")]).any()


def test_no_list_holds_an_item_that_nobody_has_touched() -> None:
    log = log_of("1a 2a 2x 1b 3b 2b 1y", [1, 1, -1, 1, 1, 1, 0])
    stream, made = Stream.of(log), engine()
    ListStream(stream, made).ranks(3)
    lists = made.recommend(np.array([made.users.slot("u2")]), {}, int(log.times_s[-1]))
    assert [item for item in lists.items[0].tolist() if item >= 0] == [0], "a; b is 3's own, x is disliked only, y only shown"


def test_ranks_on_a_list_are_means_of_ties() -> None:
    items, scores = np.array([4, 2, 7, 1, -1]), np.array([3, 2, 2, 1, -np.inf], np.float32)
    assert [mean_rank(items, scores, item) for item in (4, 2, 7, 1, 9)] == [1.0, 2.5, 2.5, 4.0, np.inf]


def test_recipes_are_trained_on_the_past_alone_after_each_fifth_of_the_targets_from_two_on(monkeypatch: pytest.MonkeyPatch) -> None:
    log, made, trained_on = random_log(8, 900, n_users=30, n_items=60), engine(), list[int]()

    def train(config: EngineConfig, past: ReplayLog, options: TrainOptions, start: Recipe | None) -> Recipe:
        assert (start is None) == (not trained_on), "from the recipe before"
        assert options.seed == 3
        trained_on.append(len(past))
        return default_recipe()

    monkeypatch.setattr(training, "train_recipe", train)
    stream = Stream.of(log)
    schedule = training.Schedule(stream, made, 3)
    seen = list[int]()

    def every(event: int) -> None:
        seen.append(len(trained_on))
        schedule(event)

    ListStream(stream, made).ranks(1, every)
    targets = stream.targets("discovery")
    assert trained_on == [int(targets[int(share * len(targets))]) for share in (0.4, 0.6, 0.8)]
    assert [seen.index(n) - 1 for n in range(1, 3)] == trained_on[:2], "each before the event is listed"
    assert made.recipe is not None and schedule.n_trained == 3


def test_a_log_with_too_few_targets_keeps_the_default_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    made, stream = engine(), Stream.of(random_log(9, 120))
    ListStream(stream, made).ranks(1, training.Schedule(stream, made, 0))
    assert made.recipe is None and "made: no recipe after " in capsys.readouterr().err


ROWS = "user_id,item_id,type,timestamp,extra\n1,a,view,1600000000,x\n2,a,buy,1600000010,x\n1,b,dislike,1599999990,x\n"


def written(folder: Path, text: str, name: str = "log.v1.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("suffix", ["csv", "csv.xz", "csv.gz"])
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_a_file_is_sorted_by_time_in_s_or_ms_and_named_by_its_stem_before_the_first_dot(tmp_path: Path, suffix: str, unit: str) -> None:
    text = ROWS if unit == "s" else ROWS.replace("0,x", "0000,x")
    path = tmp_path / f"log.v1.{suffix}"
    path.write_bytes({"csv": bytes, "csv.xz": lzma.compress, "csv.gz": gzip.compress}[suffix](text.encode()))
    log = read_log(path)
    assert log.name == "log" and log.times_s.tolist() == [1599999990, 1600000000, 1600000010]
    assert [log.item_ids[item] for item in log.items] == ["b", "a", "a"] and log.weights.tolist() == [-1.0, 0.5, 1.5]
    assert log.notes == (f"times are in {unit}", "type 'buy' counts as purchase")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROWS.replace("1600000010", "later"), "column timestamp, row 2: 'later' is not a number of s or ms since 1970"),
        (
            ROWS.replace("1600000010", "1600000010000"),
            "column timestamp, row 2: 1600000010000 is in ms, the rows before are in s: use one unit",
        ),
        (ROWS.replace("1600000010", "-5"), "column timestamp, row 2: '-5' is no time in s or ms between 1970 and 2106"),
        (ROWS.replace("1600000010", "nan"), "column timestamp, row 2: 'nan' is not a number of s or ms since 1970"),
        (ROWS.replace("2,a", ",a"), "column user_id, row 2 is empty"),
        (ROWS.replace("2,a", "2, "), "column item_id, row 2 is empty"),
        (ROWS.replace("type", "kind"), "column type is missing in row 0, the header: user_id, item_id, kind, timestamp, extra"),
        (ROWS.replace("extra", "type"), "column type is there twice in row 0, the header: user_id, item_id, type, timestamp, type"),
        (ROWS.replace("0010,x", "0010"), "column extra, row 2 is missing: the header has 5 columns, the row 4"),
        (ROWS.replace("0010,x", "0010,x,y"), "row 2: the header has 5 columns, the row 6"),
        (ROWS + '3,"b,view,1600000000,x\n', "cannot be read after row 3: unexpected end of data"),
        ("user_id,item_id,type,timestamp\n", "there are no events below the header"),
        ("", "column user_id is missing in row 0, the header: "),
        ("user_id,item_id,type,timestamp,value\n1,a,rating,1600000000,good\n", "column value, row 1: 'good' is not a number"),
    ],
)
def test_a_bad_file_is_one_line_that_names_column_and_row_and_exit_code_2(
    tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, text)
    monkeypatch.setattr(sys, "argv", ["streams", "--file", str(path), "--json"])
    assert command.main() == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"streams: log.v1.csv: {message}\n")


def test_a_file_that_is_missing_damaged_or_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"gone.csv: No such file or directory$"):
        read_log(tmp_path / "gone.csv")
    rows = ROWS + "".join(f"{user},{user * 7919 % 1013},view,1600000000,x\n" for user in range(3, 9_000))
    for suffix, packed in (("csv.gz", gzip.compress(rows.encode())), ("csv.xz", lzma.compress(rows.encode()))):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(packed[: len(packed) * 2 // 3])
        with pytest.raises(BadFile, match=rf"cut.{suffix}: cannot be read after row \d+: "):
            read_log(path)
        path.write_bytes(b"no archive at all")
        with pytest.raises(BadFile, match=rf"cut.{suffix}: cannot be read after row 0: "):
            read_log(path)
    latin = tmp_path / "latin.csv"
    latin.write_bytes(ROWS.replace("2,a", "2,é").encode("latin-1"))
    with pytest.raises(BadFile, match=r"latin.csv: row 1 or one of the next is not UTF-8"):
        read_log(latin)


def test_ratings_count_by_their_value_and_without_one_as_play(tmp_path: Path) -> None:
    rows = "user_id,item_id,type,timestamp,value\n1,a,rating,0,5\n1,b,rating,1,1\n1,c,rating,2,\n1,d,wink,3,\n"
    log = read_log(written(tmp_path, rows))
    assert log.weights.tolist() == pytest.approx([1.0, -0.6, 1.0, 1.0])
    assert log.notes[1:] == ("type 'wink' is none of the product's and counts as play", "1 ratings have no value and count as play")
    assert int(log.times_s[0]) > 900_000_000, "a log that begins at 0 is moved to the present"


def test_items_have_categories_and_attributes_of_text(tmp_path: Path) -> None:
    rows = "item_id,categories,title,brand,price\na,tea|green,A,x,1.5\nb,,B,,2\nc,tea,C,y,\n"
    content = read_items(written(tmp_path, rows))
    assert [(list(content[item].categories), dict(content[item].attributes)) for item in "abc"] == [
        (["tea", "green"], {"brand": "x"}),
        ([], {}),
        (["tea"], {"brand": "y"}),
    ]
    with pytest.raises(BadFile, match=r"log.v1.csv: column item_id is missing in row 0, the header: id"):
        read_items(written(tmp_path, "id\n1\n"))


@pytest.mark.long
def test_the_command_prints_the_figures_of_a_file_as_one_json_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = random_log(7, 200)
    rows = [f"{user},{log.item_ids[item]},view,{at_s}" for user, item, at_s in zip(log.users, log.items, log.times_s, strict=True)]
    path = written(tmp_path, "\n".join(["user_id,item_id,type,timestamp", *rows]), "shop.2026.csv")
    monkeypatch.setattr(sys, "argv", ["streams", "--file", str(path), "--json", "--events", "150", "--jobs", "1"])
    assert command.main() == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == ["shop"] and list(figures["shop"]) == ["discovery", "again"]
    for protocol, n_targets in (("discovery", len(Stream.of(log.first(150)).targets("discovery"))), ("again", None)):
        rankers = figures["shop"][protocol]
        assert n_targets is None or rankers["targets"] == n_targets > 0
        own = {"own_most_frequent", "own_most_recent"} if protocol == "again" else set()
        assert rankers.keys() == {"list", "popularity", "recent_popularity", "item_knn", "user_knn", "last_item", "targets"} | own
        for name in rankers.keys() - {"targets"}:
            assert rankers[name].keys() == {"recall@10", "recall@20", "last60_recall@10", "last60_recall@20"}
            assert 0 <= rankers[name]["recall@10"] <= rankers[name]["recall@20"] <= 1
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], "2"])
    monkeypatch.setattr(measure, "ProcessPoolExecutor", lambda n_jobs, context: ProcessPoolExecutor(1, context))  # a start takes 3 s
    assert command.main() == 0
    assert json.loads(capsys.readouterr().out) == figures, "processes give the same"


def figures(name: str, of_list: float, best: float, again: float = 0.5, own: float = 0.4, n_targets: int = 200) -> Figures:
    """Return figures whose newest 60 % have these recalls at 10."""

    def rankers(**judged: float) -> dict[str, dict[str, float]]:
        return {ranker: dict.fromkeys(COLUMNS, 0.0) | {JUDGED: value} for ranker, value in judged.items()}

    by_protocol = {"discovery": rankers(list=of_list, popularity=0.01, item_knn=best), "again": rankers(list=again, own_most_frequent=own)}
    return Figures(name, by_protocol, {"discovery": n_targets, "again": n_targets}, {})


def test_a_list_that_misses_a_limit_is_named() -> None:
    good = [figures("deskdrop", 0.766, 0.75), figures("foursquare-nyc", 0.103, 0.1, 0.421), figures("mine", 0.0205, 0.02)]
    assert list(missed(good, whole=True)) == []
    beaten = figures("mine", 0.0203, 0.02)
    assert list(missed([beaten], whole=False)) == ["mine, discovery: 0.0203 is 1.015 times item_knn, at least 1.02 must be"]
    low = [figures("deskdrop", 0.764, 0.1), figures("foursquare-nyc", 0.103, 0.1, 0.419)]
    assert [line.partition(":")[0] for line in missed(low, whole=True)] == ["deskdrop, discovery", "foursquare-nyc, again"]
    assert list(missed(low, whole=False)) == [], "a part of a log is another log"
    assert list(missed([figures("mine", 0.0, 0.02, n_targets=199)], whole=True)) == [], "few targets say nothing"


def test_the_command_fails_where_a_limit_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, ROWS)
    monkeypatch.setattr(sys, "argv", ["streams", "--file", str(path), "--json", "--check", "--jobs", "1"])
    monkeypatch.setattr(command, "missed", lambda found, whole: [f"{found[0].name} whole {whole}"])
    assert command.main() == 1 and "streams: short: log whole True" in capsys.readouterr().err
    monkeypatch.setattr(command, "missed", lambda found, whole: [])
    assert command.main() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "otto", "--file", "x.csv"], "choose --data or --file"),
        (["--items", "x.csv"], "--items describes the items of --file"),
        (["--events", "-1"], "--events and --batch must be at least 0, --jobs at least 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["streams", *arguments])
    assert command.main() == 2
    assert capsys.readouterr().err == f"streams: {message}\n"
