"""A kind that adds nothing to the list is retired, if what serves from then on does without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.evaluation.ranking import Ranked
from recsys.lists.default_recipe import default_recipe
from tests.unit.workers.models.test_model_store import save
from tests.unit.workers.trainer.test_training_round import FIRST, append, job
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer.decisions import announcements_of
from workers.trainer.gains_round import Gains, of_gains
from workers.trainer.settling import KindResult
from workers.trainer.training_round import run_job

N = 400


def ranked(**shares: float) -> dict[str, Ranked]:
    """Return ranks of the contenders: a share of the targets comes first, evenly spread, the others are misses."""
    found = {}
    for who, share in shares.items():
        ranks = np.where(np.arange(N) % 100 < 100 * share, 1.0, np.inf)
        found[who] = Ranked(np.arange(N) // 4, ranks, {})
    return found


def gains(*, challenger: float, champion: float, **settings: Any) -> Gains:
    """Return the gains where lists of both find half of the targets, and this share of them without ials."""
    of_lists = ranked(challenger=0.5, champion=0.5, challenger_without_ials=challenger, champion_without_ials=champion)
    return Gains.of(of_lists, ["ials"], TrainerSettings(**{"least_gain": 0.02, **settings}))


def of_recipe(action: Any) -> KindResult:
    return KindResult("recipe", action, "recipe-000001", None, "", {}, 0.0)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(str(tmp_path / "models"))
    store.promote("ials", save(store).version)
    return store


def test_a_kind_that_adds_nothing_is_retired_when_a_recipe_without_it_serves(store: ModelStore) -> None:
    measured = gains(challenger=0.5, champion=0.0)
    assert measured.useless == "ials" and measured.records()["ials"].mean == 0.0
    (result,) = measured.retired(of_recipe("promoted"), store, 5_000)
    assert (result.kind, result.action, result.version) == ("ials", "retired", "ials-000001")
    assert store.champion("ials") is None
    entry = store.history("ials")[-1]
    assert entry.n_events == 5_000 and "retired by the trainer, it adds +0.0000 to NDCG@10 of the list" in entry.reason
    assert announcements_of(store, [result]) == []
    assert measured.retired(of_recipe("promoted"), store, 5_000) == [], "it is retired already"


def test_a_recipe_that_goes_on_serving_keeps_the_kind_that_it_needs(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert gains(challenger=0.5, champion=0.2).retired(of_recipe("refused"), store, 1) == []
    assert store.champion("ials") == "ials-000001" and "needs it" in capsys.readouterr().err
    (result,) = gains(challenger=0.5, champion=0.5).retired(of_recipe("refused"), store, 1)
    assert result.action == "retired"


def test_a_kind_that_adds_something_and_one_that_is_judged_by_too_little_stay(store: ModelStore) -> None:
    assert gains(challenger=0.4, champion=0.4).useless is None
    assert gains(challenger=0.5, champion=0.5, min_targets=N + 1).useless is None
    assert gains(challenger=0.4, champion=0.4).retired(of_recipe("promoted"), store, 1) == []


def test_the_recipe_that_is_judged_and_stored_has_no_weight_for_the_kind() -> None:
    default = default_recipe()
    without = {"ials": default}
    assert of_gains(without, default)["champion_without_ials"].extras["ials"] == (0.0, 0.0)
    of_lists = ranked(challenger=0.5, champion=0.5, challenger_without_ials=0.49, champion_without_ials=0.5)
    measured = Gains.of(of_lists, without, TrainerSettings(least_gain=0.5))
    recipe, left = measured.without_it(without, of_lists)
    assert "ials" not in recipe.extras and left["challenger"] is of_lists["challenger_without_ials"]


def test_a_retired_kind_gets_a_second_chance_when_the_log_has_doubled(tmp_path: Path) -> None:
    def round_of(**trainer: Any) -> KindResult:
        return run_job(job(tmp_path, kinds=("ease",), options={}, holdout=0.3, **trainer))[0]

    append(tmp_path, 0, FIRST // 2)
    assert round_of().action == "promoted"
    store = ModelStore(str(tmp_path / "models"))
    store.retire("ease", n_events=FIRST // 2)
    append(tmp_path, FIRST // 2, FIRST - 1)
    early = round_of()
    assert early.action == "skipped" and f"at {FIRST} events it gets another chance" in early.reason
    append(tmp_path, FIRST - 1, FIRST)
    assert round_of().action == "promoted"
    store.retire("ease", reason="by hand")
    assert "is retired; `recsys models rollback ease`" in round_of().reason
