"""The benchmark of graphics cards runs on a processor too, and counts what it says it counts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import card


def test_every_kind_is_timed_beside_the_limit_of_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--device", "cpu", "--users", "60", "--items", "90", "--events", "900", "--seconds", "0.01", "--window", "8", "--json"]
    monkeypatch.setattr("sys.argv", ["card", *small])
    step = card.training._Run._step
    assert card.main() == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    for kind in card.KINDS:
        assert figures[f"{kind}_examples_per_s"] > 0
    for kind in ("sasrec", "hstu"):
        assert figures[f"{kind}_share_of_limit"] > 0 and figures[f"{kind}_flops_per_example"] > 6 * 2 * 8 * 64 * 64
    assert card.training._Run._step is step and figures["device"] == "the processor"


def test_generated_preferences_are_those_asked_for() -> None:
    data = card.generated(50, 40, 600, seed=1)
    again = card.generated(50, 40, 600, seed=1)
    assert (data.n_users, len(data)) == (50, 600) and data.n_items <= 40
    np.testing.assert_array_equal(data.items, again.items)
    counts = np.sort(np.bincount(data.items))[::-1]
    assert counts[0] > 4 * counts[len(counts) // 2], "few items have most of the preferences"


def test_what_cannot_be_measured_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card.torch.cuda, "is_available", lambda: False)
    for name, value, says in (("--device", "cuda", "install a build of torch with CUDA"), ("--kinds", "slim", "'slim' is none of sasrec")):
        monkeypatch.setattr("sys.argv", ["card", name, value])
        with pytest.raises(card.Fatal, match=says):
            card.main()
