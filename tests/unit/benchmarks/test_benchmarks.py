"""Benchmarks parse their own examples, streams are reproducible, and the list beats popularity on clustered tastes."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import stream_quality
from benchmarks.bench import in_turns, interleaved
from benchmarks.datasets import DatasetMissing, data_folder, generated_stream, zipf_stream
from benchmarks.figures import EXTRAS, run_benchmark
from recsys.engine import Engine


def test_list_beats_popularity_on_clustered_tastes() -> None:
    stream = generated_stream(3_000, seed=1, n_users=60, n_items=400)
    by_list, by_popularity = stream_quality.prequential_ranks(stream, Engine(), 3_000)
    assert (by_list <= 10).mean() > 1.5 * (by_popularity <= 10).mean() > 0


def test_the_same_seed_gives_the_same_stream() -> None:
    assert generated_stream(500, seed=3).items == generated_stream(500, seed=3).items
    assert generated_stream(500, seed=3).items != generated_stream(500, seed=4).items


def test_mean_rank_counts_ties_half() -> None:
    scores = np.array([3.0, 2.0, 2.0, 2.0, 1.0], np.float32)
    assert [stream_quality._mean_rank(scores, i) for i in range(5)] == [1.0, 3.0, 3.0, 3.0, 5.0]


def test_interleaving_keeps_every_event_and_each_users_order() -> None:
    stream = generated_stream(2_000, seed=0, n_users=50)
    order = interleaved(stream)
    assert sorted(order.tolist()) == list(range(2_000))
    users = np.array(stream.users)
    for user in set(stream.users):
        places = order[users[order] == user]
        assert (np.diff(places) > 0).all()
    assert len(set(users[order[: len(set(stream.users))]])) == len(set(stream.users))


def test_missing_data_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["stream_quality"])
    with pytest.raises(DatasetMissing):
        data_folder()
    assert stream_quality.main() == 2
    assert "RECSYS_DATA" in capsys.readouterr().err


def test_turns_leave_users_with_a_second_event_in_every_stream() -> None:
    """Else no two events of a user go together, and no list has a score by co-occurrence."""
    many_users, few_users = zipf_stream(3_000, seed=0), generated_stream(3_000, seed=0, n_users=50)
    assert in_turns(few_users, 2_000).tolist() == interleaved(few_users)[:2_000].tolist()
    users = [many_users.users[place] for place in interleaved(many_users)[:1_000]]
    assert len(set(users)) == 1_000, "interleaved, no user of the Zipf stream comes twice"
    in_order = in_turns(many_users, 1_000).tolist()
    assert in_order == list(range(1_000)) and len({many_users.users[place] for place in in_order}) < 1_000


def test_a_package_that_is_not_installed_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        importlib.import_module(package)
        return 0

    for package in EXTRAS:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(SystemExit) as ended:
            run_benchmark(main)
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and package in told and f"recsys-stream[{EXTRAS[package]}]" in told
    package = "benchmarks.no_such_module"  # a fault of ours stays a traceback
    with pytest.raises(ModuleNotFoundError):
        run_benchmark(main)


def test_every_benchmark_that_needs_an_extra_says_so_when_it_lacks_it() -> None:
    folder = Path(stream_quality.__file__).parent
    entries = {path.stem for path in folder.glob("*.py") if "run_benchmark(main)" in path.read_text("utf-8")}
    importing = {path.stem for path in folder.glob("*.py") if re.search(rf"^ +from ({'|'.join(EXTRAS)})\b", path.read_text("utf-8"), re.M)}
    assert importing - entries <= {"open_load", "live"}, "parts of freshness"
    assert {"train", "performance", "ingest", "freshness"} <= entries


class Parsed(Exception):
    """Ends a benchmark once its command line is read."""


BENCHMARKS = sorted(path.stem for path in Path(stream_quality.__file__).parent.glob("*.py") if "\nExamples:\n" in path.read_text("utf-8"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_help_of_a_benchmark_begins_with_examples_that_it_accepts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    summary, examples, *_ = str(module.__doc__).split("\n\n")
    assert summary.endswith((".", ":")) and "\n" not in summary
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(*arguments: Any) -> None:
        parse(*arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
    for line in examples.splitlines()[1:]:
        words = shlex.split(line, comments=True)
        start = words.index("-m")
        assert words[start - 1 : start + 2] == ["python", "-m", f"benchmarks.{name}"]
        monkeypatch.setattr("sys.argv", [name, *words[start + 2 :]])
        with pytest.raises(Parsed):
            module.main()


def test_every_benchmark_that_people_start_has_examples() -> None:
    assert set(BENCHMARKS) == {
        *("bombs", "card", "cold", "cold_items", "faults", "freshness", "fuzz_decoder", "gateway", "homepage"),
        *("ingest", "lists", "performance"),
        *("poisoning", "ranker", "recovery", "scale", "scenarios", "soak", "start", "state", "stream_quality", "table_steps", "train"),
    }
