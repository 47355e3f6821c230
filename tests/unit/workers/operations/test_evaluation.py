"""`recsys evaluate` on files and on an event log: what is read, what is refused, what comes out."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.evaluation.cases import Cases
from recsys.models.base import Model
from recsys.models.kind import ModelKind
from recsys.models.training_set import TrainingSet
from schemas import EventType
from workers.cli.app import run
from workers.errors import SettingsError
from workers.operations.evaluation_cases import Files, cases_of_files, cases_of_log
from workers.operations.evaluation_files import Numbering, Tables, read_categories, read_descriptions, read_interactions, read_negatives
from workers.producer.files import Reading
from workers.producer.mapping import RowMapping
from workers.settings import Settings
from workers.trainer.event_columns import events_table
from workers.trainer.event_log import EventLog

TRAIN = "u1 a b c\nu2 a b\nu3 c\n"
TEST = "u1 d\nu2 c\nu3 a\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "test.txt").write_text(TEST)
    return str(tmp_path / "train.txt"), str(tmp_path / "test.txt")


def histories(cases: Cases) -> list[tuple[list[str], list[str]]]:
    """Ids of the history and of the targets, case by case."""
    part, found = cases.part, []
    for at, row in enumerate(cases.rows.tolist()):
        start = int(np.searchsorted(part.users, part.users[row]))
        own = cases.targets[cases.case_of == at]
        found.append(([part.item_ids[i] for i in part.items[start:row]], [part.item_ids[i] for i in own]))
    return found


def test_lines_of_items_and_lines_of_one_item_are_the_same_interactions(tmp_path: Path) -> None:
    (tmp_path / "wide.txt").write_text("u1 a b c\nu2\n\nu2 a b\n")
    with lzma.open(tmp_path / "long.txt.xz", "wt") as packed:
        packed.write("u1\ta\nu1\tb\nu1\tc\nu2\ta\nu2\tb\n")
    (tmp_path / "table.csv").write_text("user,movie\nu1,a\nu1,b\nu1,c\nu2,a\nu2,b\n")
    found = []
    tables = Tables(events=lambda: RowMapping("events", {"user_id": ("user",), "item_id": ("movie",)}, True, defaults={"type": "view"}))
    for name in ("wide.txt", "long.txt.xz", "table.csv"):
        users, items = Numbering(), Numbering()
        read = read_interactions("--train", str(tmp_path / name), users, items, tables)
        found.append((read.users, read.items, users.ids, items.ids, sorted(read.ts_ms) == read.ts_ms))
    assert found[0] == found[1] == found[2] == ([0, 0, 0, 1, 1], [0, 1, 2, 0, 1], ["u1", "u2"], ["a", "b", "c"], True)


RATED = [("u1", "a", 5, 978_300_760), ("u2", "a", 3, 978_300_761), ("u1", "b", 4, 978_300_762), ("u2", "b", 1, 978_300_763)]


@pytest.mark.parametrize(("name", "separator"), [("ratings.dat", "::"), ("u.data", "\t"), ("ratings.txt", " ")])
def test_rows_of_a_table_are_no_lines_of_items_and_the_remedy_reads_them(
    name: str, separator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_text("".join(separator.join(map(str, row)) + "\n" for row in RATED))
    command = ["evaluate", "--train", str(file), "--kinds", "popular"]
    assert run(command) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "--header user_id,item_id" in said and f"--delimiter {'tab' if separator == chr(9) else repr(separator)}" in said
    tables = Tables(Reading(delimiter=separator, header=("user_id", "item_id", "value", "event_ts_ms")))
    read = read_interactions("--train", str(file), Numbering(), Numbering(), tables)
    assert (read.users, read.items, read.has_times) == ([0, 1, 0, 1], [0, 0, 1, 1], True)
    assert read.ts_ms == [1_000 * ts_s for *_, ts_s in RATED]
    assert run([*command, "--delimiter", separator, "--header", "user_id,item_id,value,event_ts_ms"]) == 0
    if separator in ("::", "\t"):  # which are seen
        assert run([*command, "--header", "user_id,item_id,value,event_ts_ms"]) == 0


def test_times_are_not_left_out_for_the_fault_of_another_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "orders.csv").write_text(ORDERS.replace("c1,s2", ",s2", 1))
    assert run(["evaluate", "--train", str(tmp_path / "orders.csv"), "--kinds", "popular"]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "by their names" not in line]
    assert "user_id: missing or blank" in said and "left out" not in said


ORDERS = "customer,sku,bought\n" + "".join(f"c{n % 4},s{n % 3},2026-01-{28 - n:02d} 10:00\n" for n in range(12))


@pytest.mark.parametrize(
    ("content", "test", "said"),
    [
        (ORDERS, None, "user_id=customer, item_id=sku, event_ts_ms=bought (--map for others)"),
        (ORDERS.replace(",", ";"), None, "user_id=customer, item_id=sku, event_ts_ms=bought (--map for others)"),
        (ORDERS, "customer,sku\nc0,s1\nc1,s2\nc2,s0\nc3,s1\n", "event_ts_ms=bought is left out, the order of the file counts"),
        (ORDERS.replace("2026-01-28 10:00", "soon"), None, "event_ts_ms=bought is left out"),
        (ORDERS.replace("customer,sku", "user_id,item_id"), None, "columns taken by their names: event_ts_ms=bought"),
        (ORDERS.replace("customer,sku,bought", "user_id,item_id,colour"), None, None),
    ],
)
def test_a_table_that_calls_its_columns_otherwise_is_read_and_it_is_said(
    content: str, test: str | None, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orders.csv").write_text(content)
    arguments = ["evaluate", "--train", str(tmp_path / "orders.csv"), "--kinds", "popular", "--json"]
    if test is not None:
        (tmp_path / "test.csv").write_text(test)
        arguments += ["--test", str(tmp_path / "test.csv")]
    assert run(arguments) == 0
    err = capsys.readouterr().err
    assert said is None or said in err
    assert ("by their names" in err) == (said is not None)


def test_lines_of_as_many_items_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("u1 978300760 978300761\nu2 978300760 978300762\n")
    assert len(read_interactions("--train", str(tmp_path / "pairs.txt"), Numbering(), Numbering()).users) == 4


def test_the_test_file_or_each_users_last_item_judges(files: tuple[str, str]) -> None:
    train, test = files
    given = cases_of_files(Files(train, test), "last-item", 0.2)
    assert histories(given) == [(["a", "b", "c"], ["d"]), (["a", "b"], ["c"]), (["c"], ["a"])]
    assert histories(cases_of_files(Files(train), "last-item", 0.2)) == [(["a", "b"], ["c"]), (["a"], ["b"])]


def test_negatives_may_name_the_test_item_with_the_user(tmp_path: Path, files: tuple[str, str]) -> None:
    (tmp_path / "negatives.txt").write_text("(u1,d)\te\tf\nu2 d e\n(u3,a) b a\n")
    cases = cases_of_files(Files(*files, str(tmp_path / "negatives.txt")), "negatives", 0.2)
    ranked = [{cases.part.item_ids[i] for i in np.flatnonzero(row)} for row in cases.ranked(slice(0, 3))]
    assert ranked == [{"d", "e", "f"}, {"c", "d", "e"}, {"a", "b"}]
    assert list(read_negatives("--negatives", str(tmp_path / "negatives.txt"), Numbering(), Numbering())) == [0, 1, 2]


def test_a_table_with_times_is_split_at_a_time(tmp_path: Path) -> None:
    rows = [("u1", "a", 1), ("u2", "a", 2), ("u1", "b", 3), ("u2", "b", 4), ("u1", "a", 5)]
    lines = "".join(f"{u},{i},2026-01-0{t}T00:00:00Z\n" for u, i, t in reversed(rows))
    (tmp_path / "log.csv").write_text(f"user_id,item_id,event_ts_ms\n{lines}")
    files = Files(str(tmp_path / "log.csv"))
    assert histories(cases_of_files(files, "temporal", 0.4)) == [(["a"], ["b"])]
    assert histories(cases_of_files(files, "discovery", 0.4)) == [(["a"], ["b"])]
    assert histories(cases_of_files(files, "again", 0.4)) == [(["a", "b"], ["a"])]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("u1 a\nu2 " + "x" * 129 + "\n", "--train: line 2 holds an id"),
        (b"u1 a\nu2 \xff\n", "--train: is not UTF-8 (line 2): pass --encoding"),
        ("u1\n", "--train: the file holds no interactions"),
        ("", "--train"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | bytes, says: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run(["evaluate", "--train", str(tmp_path / "bad.txt"), "--kinds", "popular"]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_bad_row_of_a_table_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.csv").write_text("user_id,item_id\nu1,a\nu2,\n")
    assert run(["evaluate", "--train", str(tmp_path / "bad.csv"), "--kinds", "popular"]) == 2
    assert "--train: line 3: item_id: missing or blank" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--train", "TRAIN", "--test", "TRAIN"], "needs one item for each user, user u1 has 3"),
        (["--train", "TRAIN", "--protocol", "full"], "--test: protocol full needs it"),
        (["--train", "TRAIN", "--test", "TEST", "--protocol", "negatives"], "--negatives"),
        (["--train", "TRAIN", "--test", "TEST", "--negatives", "ONE", "--protocol", "negatives"], "there are none for user u2"),
        (["--train", "TRAIN", "--protocol", "temporal"], "--train: protocol temporal needs times"),
        (["--train", "TRAIN", "--protocol", "best"], "--protocol: one of"),
        (["--train", "TRAIN", "--kinds", "ialz"], "did you mean ials?"),
        (["--train", "TRAIN", "--log"], "either --train"),
        ([], "either --train"),
        (["--train", "TRAIN", "--since", "2026-01-01"], "--since: only --log"),
        (["--log", "--since", "soon"], "--since: a date"),
        (["--train", "TRAIN", "--search-minutes", "nan"], "--search-minutes"),
        (["--train", "TRAIN", "--search-minutes", "inf"], "--search-minutes"),
        (["--log", "--holdout", "nan"], "--holdout"),
        (["--train", "TRAIN", "--kinds", "ials,ials", "--ensemble"], "--ensemble: name two kinds"),
        (["--train", "TRAIN", "--kinds", "ials,ease", "--train-once"], "--train-once: only with --ensemble"),
        (["--train", "TRAIN", "--new-items", "3"], "--new-items: only with --protocol discovery or again"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    tmp_path: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    (tmp_path / "one.txt").write_text("u1 e\n")
    paths = {"TRAIN": files[0], "TEST": files[1], "ONE": str(tmp_path / "one.txt")}
    assert run(["evaluate", *(paths.get(argument, argument) for argument in arguments)]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_json_holds_metrics_intervals_tests_and_configuration_by_kind(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "--train", files[0], "--test", files[1], "--kinds", "popular", "--protocol", "full", "--json"]
    assert run([*arguments, "--search-minutes", "0.01"]) == 0
    (kind, figures), *others = json.loads(capsys.readouterr().out).items()
    assert (kind, others) == ("popular", [])
    assert figures["recall@20"] == pytest.approx(2 / 3, abs=1e-5)  # d is in nobody's training data
    assert (figures["hr@10"], figures["n_unknown_items"], figures["config"]) == (figures["recall@20"], 1, {"seed": 0})
    assert {"ndcg@10", "ndcg@20", "mrr", "map@10", "coverage@10", "gini@10", "novelty@10", "train_s", "groups"} <= figures.keys()
    low, high = figures["intervals"]["recall@20"]
    assert low <= figures["recall@20"] <= high
    assert run(arguments[:-1]) == 0
    assert "popular" in capsys.readouterr().out


@pytest.mark.parametrize("protocol", ["last-item", "full", "negatives"])
def test_an_ensemble_is_judged_beside_its_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: str) -> None:
    own = in_one_order(60, shuffled=60)
    (tmp_path / "train.txt").write_text("".join(f"u{user} {' '.join(items[:-1])}\n" for user, items in enumerate(own)))
    (tmp_path / "test.txt").write_text("".join(f"u{user} {items[-1]}\n" for user, items in enumerate(own)))
    others = ({f"i{item}" for item in range(60)} - set(items) for items in own)
    (tmp_path / "negatives.txt").write_text("".join(f"u{user} {' '.join(sorted(free)[:20])}\n" for user, free in enumerate(others)))
    command = ["evaluate", "--train", str(tmp_path / "train.txt"), "--test", str(tmp_path / "test.txt"), "--protocol", protocol]
    if protocol == "negatives":
        command += ["--negatives", str(tmp_path / "negatives.txt")]
    assert run([*command, "--kinds", "popular,ease", "--ensemble", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["popular", "ease", "ensemble"]
    together = found["ensemble"]
    assert together["config"]["kinds"] == ["popular", "ease"]
    assert together["config"]["weights"].keys() == {"popular", "ease"}
    assert together["against"].keys() == {"popular", "ease"}
    assert together["train_s"] >= found["ease"]["train_s"] + found["popular"]["train_s"]
    assert together["n_targets"] == 60
    assert run([*command, "--kinds", "popular,ease", "--ensemble"]) == 0
    assert "ensemble: weights popular score" in " ".join(capsys.readouterr().out.split())


def test_kinds_that_are_trained_once_have_not_learnt_from_what_chooses_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = in_one_order(60, shuffled=60)
    (tmp_path / "train.txt").write_text("".join(f"u{user} {' '.join(items[:-1])}\n" for user, items in enumerate(own)))
    (tmp_path / "test.txt").write_text("".join(f"u{user} {items[-1]}\n" for user, items in enumerate(own)))
    learnt_from: list[int] = []

    def train(self: ModelKind, training: TrainingSet, *arguments: Any) -> Model:
        learnt_from.append(len(training.items))
        return trained(self, training, *arguments)

    trained = ModelKind.train
    monkeypatch.setattr(ModelKind, "train", train)
    files = ["--train", str(tmp_path / "train.txt"), "--test", str(tmp_path / "test.txt")]
    command = ["evaluate", *files, "--kinds", "popular,ease", "--json"]
    assert run([*command, "--ensemble"]) == 0
    twice = json.loads(capsys.readouterr().out)
    whole, of_validation = learnt_from[0], learnt_from[2]
    assert learnt_from == [whole, whole, of_validation, of_validation] and of_validation == whole - 60
    assert run([*command, "--ensemble", "--train-once"]) == 0
    once = json.loads(capsys.readouterr().out)
    assert learnt_from[4:] == [of_validation, of_validation]
    assert once["ensemble"]["config"] == twice["ensemble"]["config"]  # the same models chose the weights
    assert once["ensemble"]["n_targets"] == once["ease"]["n_targets"] == 60
    assert once["ease"]["ndcg@10"] > 0


def test_an_ensemble_without_a_validation_part_says_so(
    tmp_path: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short.txt").write_text("u1 a b\nu2 a b\nu3 c a\n")  # nobody has three items
    train = str(tmp_path / "short.txt")
    (tmp_path / "one.txt").write_text("u1 c\nu2 c\nu3 b\n")
    command = ["evaluate", "--train", train, "--test", str(tmp_path / "one.txt"), "--kinds", "popular,ease", "--ensemble", "--json"]
    assert run(command) == 1
    found = json.loads(capsys.readouterr().out)
    assert "error" not in found["ease"]
    assert found["ensemble"] == {"error": "ensemble: no target of the validation part can be ranked by the models"}


def test_new_items_are_taken_in_during_the_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early = [(f"u{user}", item, day) for user in range(1, 5) for day, item in ((1, "a"), (2, "b"))]
    late = [("u1", "c", 20), ("u2", "c", 21), ("u3", "c", 22)]  # nobody touched c before the test
    lines = "".join(f"{user},{item},2026-01-{day:02d}T00:00:00Z\n" for user, item, day in early + late)
    (tmp_path / "log.csv").write_text(f"user_id,item_id,event_ts_ms\n{lines}")
    file = str(tmp_path / "log.csv")
    command = ["evaluate", "--train", file, "--protocol", "discovery", "--holdout", "0.25", "--kinds", "ials", "--json"]
    unknown = []
    for parts in ("0", "2"):
        assert run([*command, "--new-items", parts]) == 0
        unknown.append(json.loads(capsys.readouterr().out)["ials"]["n_unknown_items"])
    assert unknown == [2, 0]  # the first user's choice of c is no case: nobody had touched it


def test_categories_of_items_are_read_from_a_table(tmp_path: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "categories": ["x", "y"]}\n{"item_id": "z", "categories": ["x"]}\n')
    assert read_categories("--items", str(tmp_path / "items.jsonl"), ["b", "a"]).tolist() == [[0, 0], [1, 1]]
    with pytest.raises(SettingsError, match="no item of the log has a category"):
        read_categories("--items", str(tmp_path / "items.jsonl"), ["b"])
    arguments = ["evaluate", "--train", files[0], "--kinds", "popular", "--items", str(tmp_path / "items.jsonl"), "--json"]
    assert run(arguments) == 0
    assert "diversity@10" in json.loads(capsys.readouterr().out)["popular"]


def test_options_of_tables_are_those_of_publishing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ratings.csv").write_bytes("ü;a;5\nü;b;6\nv;a;7\nv;b;8\n".encode("latin-1"))
    (tmp_path / "films.csv").write_bytes("a;x|y\nb;x\n".encode("latin-1"))
    arguments = ["evaluate", "--train", str(tmp_path / "ratings.csv"), "--encoding", "latin-1", "--delimiter", ";", "--json"]
    arguments += ["--header", "user,film,when", "--map", "user_id=user,item_id=film,event_ts_ms=when", "--time-unit", "s"]
    assert run([*arguments, "--protocol", "again", "--holdout", "0.5", "--kinds", "popular"]) == 2
    assert "hold no target" in capsys.readouterr().err
    assert run([*arguments, "--protocol", "temporal", "--holdout", "0.25", "--kinds", "popular"]) == 0
    assert json.loads(capsys.readouterr().out)["popular"]["n_targets"] == 1
    assert run([*arguments, "--map", "colour=user", "--kinds", "popular"]) == 2
    assert "colour is no field" in capsys.readouterr().err


START_MS = 1_767_225_600_000  # 2026-01-01


@pytest.fixture
def log_settings(tmp_path: Path) -> Settings:
    """The log of twelve views by two users, one a minute; each user views four items, then the first two again."""
    n = list(range(12))
    types, values = [EventType.VIEW.code] * 12, [float("nan")] * 12
    table = events_table(n, [f"u{i % 2}" for i in n], [f"i{i // 2 % 4}" for i in n], types, values, [START_MS + 60_000 * i for i in n], n)
    EventLog(str(tmp_path / "log"), "0" * 32).append(0, 0, 11, table)
    return Settings.model_validate({"trainer": {"log_url": str(tmp_path / "log")}})


def test_the_event_log_is_split_at_a_time_and_may_begin_later(log_settings: Settings) -> None:
    four = (["i0", "i1"], ["i2", "i3"])
    assert histories(cases_of_log(log_settings, "temporal", 8 / 12)) == [four, four]
    again = cases_of_log(log_settings, "again", 4 / 12)
    assert [targets for _, targets in histories(again)] == [["i0"], ["i1"]] * 2
    late = cases_of_log(log_settings, "temporal", 8 / 12, START_MS + 60_000 * 2)
    assert histories(late)[0] == (["i1", "i2"], ["i3", "i0"])
    assert histories(cases_of_log(log_settings, "last-item", 0.2))[0] == (["i0", "i1", "i2", "i3", "i0"], ["i1"])


def test_the_event_log_refuses_what_it_cannot_do(log_settings: Settings) -> None:
    with pytest.raises(SettingsError, match="needs --train and --test"):
        cases_of_log(log_settings, "full", 0.2)
    with pytest.raises(SettingsError, match="holds no events of weight from --since on"):
        cases_of_log(log_settings, "temporal", 0.2, START_MS + 10**9)
    with pytest.raises(SettingsError, match="hold no target"):
        cases_of_log(log_settings, "discovery", 1 / 12)


def test_the_command_reads_the_deployments_log(
    log_settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_TRAINER__LOG_URL", log_settings.trainer.log_url)
    assert run(["evaluate", "--log", "--kinds", "popular", "--holdout", "0.6", "--since", "2026-01-01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["popular"]["n_cases"] == 2


def test_a_table_of_items_says_categories_attributes_and_relations(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item_id,categories,categorical_attributes.director,categorical_attributes.sequel_of\n"
        "a,x|y,Mann,\nb,x,Mann,a\nelsewhere,z,Lynch,b\n"
    )
    found = read_descriptions("--items", str(tmp_path / "items.csv"), ["b", "a", "c"])
    said = [{value.replace("\x1f", "=") for value, _ in item} for item in found.words(["a", "b", "c"]).values]
    assert said[0] >= {"category=x", "category=y", "attribute.sequel_of=a"} and "attribute.sequel_of=a" in said[1]
    assert said[2] == set() and not any("Lynch" in value for value in said[0] | said[1])
    with pytest.raises(SettingsError, match="--items: "):
        read_descriptions("--items", str(tmp_path / "none.csv"), ["a"])


def in_one_order(n_users: int, *, n_of_each: int = 12, n_items: int = 60, shuffled: int = 0) -> list[list[str]]:
    """Return the items of users, which follow one order of all items that is not that of ids; but those of the first users `shuffled`."""
    random = np.random.default_rng(0)
    every = [f"i{at}" for at in random.permutation(n_items).tolist()]
    found = [[every[at] for at in sorted(random.choice(n_items, n_of_each, replace=False).tolist())] for _ in range(n_users)]
    for items in found[:shuffled]:
        random.shuffle(items)
    return found


@pytest.mark.parametrize(
    ("own", "is_sorted"),
    [
        (in_one_order(300), True),
        (in_one_order(300, shuffled=2), True),
        (in_one_order(300, shuffled=30), False),
        (in_one_order(300, shuffled=300), False),
        (in_one_order(60), False),  # too little to be sure
        ([[f"part {at}" for at in range(user % 5, 40)] for user in range(100)], False),  # a series, which people follow
    ],
    ids=["sorted", "nearly", "a tenth is not", "none", "few", "series"],
)
def test_items_that_are_all_sorted_in_one_way_are_taken_in_a_random_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, own: list[list[str]], is_sorted: bool
) -> None:
    path, test = tmp_path / "train.csv", tmp_path / "test.csv"
    path.write_text("user_id,item_id\n" + "".join(f"u{user},{item}\n" for user, items in enumerate(own) for item in items))
    test.write_text("user_id,item_id\n" + "".join(f"u{user},99\n" for user in range(len(own))))
    found, again = (histories(cases_of_files(Files(str(path), str(test)), "last-item", 0.2)) for _ in range(2))
    assert ("sorted in the same way" in caplog.text) == is_sorted and again == found
    read = [items for items, _ in found]
    assert [sorted(items) for items in read] == [sorted(items) for items in own] and (read == own) == (not is_sorted)
    if is_sorted:
        assert np.mean([new[-1] == old[-1] for new, old in zip(read, own, strict=True)]) < 0.25, "the newest item is any of them"
