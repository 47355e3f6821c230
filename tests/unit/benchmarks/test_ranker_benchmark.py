"""The check of the ranker's benchmark fails for each log on which the ranker does not lead, and for too little recall with models."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.ranker import NO_MODELS, failures, main


def figures(low: float, recall: float, at_20: float = 0.345) -> dict[str, dict[str, Any]]:
    leads = {"lead": low + 0.002, "lead_low": low, "lead_high": low + 0.004}
    return {"off": {}, "on": {**leads, "all_recall@10": recall, "all_recall@20": at_20}}


def test_the_check_asks_for_an_interval_above_zero_on_each_log() -> None:
    assert failures({"deskdrop": figures(0.001, 0.7), "foursquare-nyc": figures(0.0001, 0.1)}, has_models=False) == []
    found = failures({"deskdrop": figures(0.0, 0.7), "foursquare-nyc": figures(-0.001, 0.1)}, has_models=False)
    assert [one.split(":")[0] for one in found] == ["deskdrop", "foursquare-nyc"]


def test_with_models_the_check_asks_for_recall_over_the_whole_stream() -> None:
    assert failures({"ml-1m": figures(0.001, 0.2399)}, has_models=False) == []
    assert failures({"ml-1m": figures(0.001, 0.24)}, has_models=True) == []
    assert "recall@10 of the whole stream is 0.2399; 0.24 is asked for" in failures({"ml-1m": figures(0.001, 0.2399)}, has_models=True)[0]
    assert "recall@20 of the whole stream is 0.3449; 0.345 is" in failures({"ml-1m": figures(0.001, 0.24, 0.3449)}, has_models=True)[0]


def test_the_check_asks_the_same_of_lists_without_models_where_there_are_any() -> None:
    ahead, behind = figures(0.001, 0.7)["on"], figures(0.0, 0.7)["on"]
    assert failures({"deskdrop": figures(0.001, 0.7) | {NO_MODELS: ahead}}, has_models=True) == []
    (said,) = failures({"deskdrop": figures(0.001, 0.7) | {NO_MODELS: behind}}, has_models=True)
    assert "over lists without models" in said


def test_there_is_nothing_to_compare_with_lists_without_models_where_no_models_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ranker", "--without"])
    assert main() == 2 and "--models or --kinds" in capsys.readouterr().err
