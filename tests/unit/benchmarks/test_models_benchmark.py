"""`benchmarks.models`: scores of others are judged as ours are, finished runs are kept, and a table replaces only its own part."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models import __main__ as benchmark
from benchmarks.models import libraries, measure
from benchmarks.models.limits import LEAST, missed
from benchmarks.models.measure import Kept, Measured, judged, run_ensemble, run_kind, run_library
from benchmarks.models.published import PUBLISHED
from benchmarks.models.report import markdown, marks, rows_of, write
from benchmarks.models.tables import SPLITS
from recsys.evaluation.outcome import outcome_of
from recsys.evaluation.search import last_item_validation
from recsys.models.popular.model import PopularModel
from recsys.models.registry import MODELS
from tests.unit.recsys.models.model_cases import clustered


def test_scores_of_others_are_judged_as_models_are() -> None:
    """By popularity, which has ties, and whose items are those of the training alone."""
    cases = last_item_validation(clustered(80))
    training = cases.training()
    model = MODELS["popular"].fit(training, MODELS["popular"].config())
    assert isinstance(model, PopularModel)
    scores = np.full((80, len(cases.part.item_ids)), np.nan, np.float32)
    axis = [cases.part.item_ids.index(item) for item in model.item_ids]
    scores[:, axis] = model.item_vectors[:, 0]
    means = outcome_of(model, cases).means()
    found = judged(scores, cases)
    assert found == {name: round(means[name], 5) for name in ("hr@10", "ndcg@10")}
    assert 0 < found["ndcg@10"] < 1


def test_a_library_trains_on_the_users_items_and_one_that_fails_is_named_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cases, seen = last_item_validation(clustered(30)), {}

    def run(command: list[str]) -> tuple[dict[str, object], str]:
        train = np.load(command[3])
        seen.update(name=command[2], n=len(train["items"]), users=len(train["indptr"]) - 1)
        np.save(command[4], np.zeros((30, int(train["n_items"])), np.float32))
        return {"version": "1.0", "model": "one", "train_cpu_s": 2.0, "peak_mb": 100}, ""

    monkeypatch.setattr(measure, "_last_line", run)
    found = run_library("ml-1m-ncf", cases, "implicit", "python", 0, Kept(None))
    assert seen == {"name": "implicit", "n": len(cases.training()), "users": 30}
    assert found.config == {"version": "1.0", "model": "one"}
    assert found.figures == {"hr@10": 0.0, "ndcg@10": 0.0}, "all tied: in the middle of the list"
    monkeypatch.setattr(measure, "_last_line", lambda command: ({}, "ModuleNotFoundError: No module named 'implicit'"))
    assert "No module" in run_library("ml-1m-ncf", cases, "implicit", "python", 0, Kept(None)).error


def test_a_command_that_fails_gives_one_line_without_paths() -> None:
    said, error = measure._last_line([sys.executable, "-c", "raise ValueError('no wheel in /a/b for this')"])
    assert (said, error) == ({}, "ValueError: no wheel in … for this")
    assert measure._last_line([sys.executable, "-c", "print('x'); print('{\"a\": 1}')"]) == ({"a": 1}, "")


def test_finished_runs_are_kept_and_failed_ones_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"hr@10": 0.5, "ndcg@10": 0.25, "train_cpu_s": 1.0, "peak_mb": 10, "config": {}}
    calls, answers = [], [({}, "killed"), (said, "")]

    def run(command: list[str]) -> tuple[dict[str, object], str]:
        calls.append(command)
        return answers.pop(0)

    monkeypatch.setattr(measure, "_last_line", run)
    rows = tmp_path / "rows.jsonl"
    assert run_kind("ml-1m-ncf", "ials", 1, 0.0, Kept(rows)).error == "killed"
    assert run_kind("ml-1m-ncf", "ials", 1, 0.0, Kept(rows)).figures == {"hr@10": 0.5, "ndcg@10": 0.25}
    assert run_kind("ml-1m-ncf", "ials", 1, 0.0, Kept(rows)).figures["hr@10"] == 0.5 and len(calls) == 2


def test_an_ensemble_is_one_run_of_all_kinds_and_a_row_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"hr@10": 0.5, "ndcg@10": 0.25, "train_cpu_s": 1.0, "peak_mb": 10, "config": {}}
    asked: list[dict[str, object]] = []

    def run(command: list[str]) -> tuple[dict[str, object], str]:
        asked.append(json.loads(command[-1]))
        return said, ""

    monkeypatch.setattr(measure, "_last_line", run)
    found = run_ensemble("ml-1m-ncf", ["ials", "ease"], 2, Kept(None), {"ials": {"factors": 192}})
    once = run_ensemble("ml-1m-ncf", ["ials", "ease"], 2, Kept(None), train_once=True)
    same = {"table": "ml-1m-ncf", "kinds": ["ials", "ease"], "seed": 2, "search_s": 0.0}
    assert asked[0] == {**same, "options": {"ials": {"factors": 192}}, "train_once": False}
    assert asked[1] == {**same, "options": {}, "train_once": True}
    assert rows_of([found])[0][:4] == ("ensemble of `ials` with factors 192, `ease`", ".5000", ".2500", "1")
    assert rows_of([once])[0][0] == "ensemble of `ials`, `ease`; each trained once, without the validation part"


def runs() -> list[Measured]:
    figures = [{"hr@10": 0.7, "ndcg@10": 0.4}, {"hr@10": 0.72, "ndcg@10": 0.42}]
    of_seeds = [Measured("ml-1m-ncf", "defaults", "ials", seed, 0.0, figures[seed], 10.0 + seed, 500) for seed in (0, 1)]
    searched = Measured("ml-1m-ncf", "searched", "ials", 0, 2.0, figures[1], 3.0, 600, {"factors": 128, "seed": 0})
    return [*of_seeds, searched, Measured("ml-1m-ncf", "RecBole", "RecBole", 0, error="no wheel")]


def test_a_row_is_the_mean_and_deviation_of_its_seeds() -> None:
    rows = rows_of(runs())
    assert rows[0][:6] == ("`ials`, shipped defaults", ".7100 ± .0141", ".4100 ± .0141", "2", "10.5", "500")
    assert rows[1][:4] == ("`ials`, after a search of 2 minutes", ".7200", ".4200", "1")
    assert rows[2][6] == "no wheel"


def test_the_check_asks_for_the_best_row_of_each_kind_that_has_a_limit() -> None:
    def run(model: str, who: str, seed: int, hr: float, ndcg: float) -> Measured:
        return Measured("ml-1m-ncf", who, model, seed, figures={"hr@10": hr, "ndcg@10": ndcg})

    assert list(missed("ml-1m-ncf", runs()[2:])) == ["ml-1m-ncf, ials: 0.7200 / 0.4200, at least 0.7270 / 0.4500 must be"]
    defaults = run("ials", "defaults", 0, 0.71, 0.43)
    low, high = run("ials", "with options", 0, 0.72, 0.449), run("ials", "with options", 1, 0.74, 0.452)
    assert list(missed("ml-1m-ncf", [defaults, low, high])) == []  # the mean of the two seeds
    assert len(list(missed("ml-1m-ncf", [defaults, low]))) == 1
    failed = Measured("ml-1m-ncf", "defaults", "ease", 0, error="killed")
    assert list(missed("ml-1m-ncf", [high, failed])) == ["ml-1m-ncf, ease: did not run, at least 0.7180 / 0.4490 must be"]
    assert set(LEAST) == set(SPLITS)


def test_a_table_replaces_only_its_part_of_the_document(tmp_path: Path) -> None:
    text = markdown("ml-1m-ncf", runs(), "python -m benchmarks.models")
    assert "Not run: RecBole (no wheel)." in text and "factors 128" in text and "| EASE | .7192 | .4494 |" in text
    document = tmp_path / "quality.md"
    parts = ["# before", *marks("ml-1m-sasrec"), "# between", *marks("ml-1m-ncf"), "# after"]
    document.write_text("\n".join(parts), "utf-8")
    write("ml-1m-ncf", text, document)
    write("ml-1m-ncf", text, document)
    written = document.read_text("utf-8")
    assert written.count(text) == 1 and written.startswith("\n".join(parts[:4])) and written.endswith("# after")
    document.write_text("nothing", "utf-8")
    with pytest.raises(ValueError, match="has no part"):
        write("ml-1m-ncf", text, document)


def test_every_table_has_published_rows_and_a_part_in_the_documents() -> None:
    document = (Path(__file__).resolve().parents[3] / "docs" / "quality.md").read_text("utf-8")
    for table in SPLITS:
        assert all(mark in document for mark in marks(table))
        assert PUBLISHED[table] and all(row.source and 0 < float(row.ndcg) < float(row.hr) < 1 for row in PUBLISHED[table])


def test_the_script_of_the_libraries_needs_nothing_of_this_project() -> None:
    tree = ast.parse(Path(libraries.__file__).read_text("utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in names} & {"recsys", "workers", "schemas", "benchmarks"}
    assert list(libraries.RUNS) == list(libraries.PACKAGES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kinds", "nothing"], "there is no nothing"),
        (["--others", "Nobody"], "there is no Nobody"),
        (["--others", "all"], "--others-folder"),
        (["--others", "none", "--seeds", "0"], "--seeds"),
        (["--others", "none", "--kinds", "ials,ease", "--options", "{}", "--ensemble"], "RECSYS_DATA"),
        (["--others", "none", "--kinds", "ials,ease", "--options", '{"factors": 9}', "--ensemble"], "by kind"),
        (["--others", "none", "--kinds", "ials,ease", "--options", '{"factors": 9}'], "the one kind"),
        (["--others", "none", "--kinds", "ials,ease", "--train-once"], "--train-once: only with --ensemble"),
        (["--others", "none", "--search-minutes", "nan"], "--search-minutes"),
        (["--others", "implicit", "--kinds", "popular", "--others-python", "python"], "RECSYS_DATA"),
    ],
)
def test_wrong_arguments_and_missing_data_are_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["models", "--table", "ml-1m-ncf", *arguments])
    assert benchmark.main() == 2
    assert said in capsys.readouterr().err
