"""A round for the recipe: challenger and champion are judged by the lists that they make of the newest events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.recipe.judge import Judged
from tests.unit.workers.trainer.test_training_round import append, job
from workers.models.lineage import measured_gain
from workers.models.store import ModelStore
from workers.settings import load_settings
from workers.trainer import recipe_round
from workers.trainer.judgement import decide
from workers.trainer.settling import KindResult
from workers.trainer.training_round import run_job

pytestmark = pytest.mark.slow

OPTIONS = {"recipe": {"cases": 400, "searched": 0}}
N_ITEMS, N_USERS, N_HOT = 300, 200, 10
START_MS = 1_700_000_000_000


def fashion(n_events: int, seed: int = 0) -> list[tuple[str, str, int]]:
    """A portal: most people choose one of ten articles, of which one is replaced every twenty minutes."""
    random = np.random.default_rng(seed)
    hot = random.permutation(N_ITEMS)[:N_HOT].tolist()
    events = []
    for number in range(n_events):
        if number % 40 == 0:
            hot = [*hot[1:], int(random.integers(N_ITEMS))]
        item = hot[int(random.integers(N_HOT))] if random.random() < 0.8 else int(random.integers(N_ITEMS))
        events.append((f"u{random.integers(N_USERS)}", f"i{item}", START_MS + number * 30_000))
    return events


def trained(folder: Path, **options: Any) -> KindResult:
    (result,) = run_job(job(folder, kinds=("recipe",), **{"options": OPTIONS, "holdout": 0.2, "min_targets": 200, **options}))
    return result


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KindResult]:
    folder = tmp_path_factory.mktemp("recipe")
    append(folder, 0, 4_000, fashion(4_000))
    return folder, trained(folder)


def test_a_recipe_that_learned_the_log_replaces_the_default_and_says_whom_it_beat(first: tuple[Path, KindResult]) -> None:
    folder, result = first
    assert (result.kind, result.action, result.version, result.champion) == ("recipe", "promoted", "recipe-000001", None), result.reason
    assert "better beyond chance than champion" in result.reason and "not below popularity" in result.reason
    manifest, _ = ModelStore(str(folder / "models")).manifest("recipe", "recipe-000001")
    metrics = manifest.metrics
    assert set(metrics) == {"challenger", "champion", "popularity", "recent_popularity"}
    assert metrics["challenger"]["ndcg@10"] > 1.05 * metrics["champion"]["ndcg@10"]
    assert metrics["recent_popularity"]["ndcg@10"] > 2 * metrics["popularity"]["ndcg@10"]
    assert {figures["n_targets"] for figures in metrics.values()} == {result.figures["n_targets"]}
    assert manifest.n_items == 0 and manifest.refit is None and manifest.trained_on.n_events == 3_200


def test_the_next_recipe_starts_from_the_champion_and_has_to_beat_it(first: tuple[Path, KindResult]) -> None:
    folder, _ = first
    again = trained(folder)
    assert again.action == "skipped" and "no event is newer" in again.reason
    append(folder, 4_000, 5_000, fashion(5_000)[4_000:])
    result = trained(folder)
    assert result.champion == "recipe-000001" and result.action in ("promoted", "refused")
    manifest, _ = ModelStore(str(folder / "models")).manifest("recipe", result.version or "")
    assert manifest.parent == "recipe-000001" and "champion" in result.reason
    assert (result.action == "promoted") == (result.figures["least_lead_over_champion"] > 0)


def test_a_recipe_that_learned_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training gives the recipe back that it started from: as good as the champion, so no better."""
    append(tmp_path, 0, 2_500, fashion(2_500))
    default = recipe_round.default_recipe()
    monkeypatch.setattr(recipe_round, "train_recipe", lambda *arguments, **options: default)
    result = trained(tmp_path)
    assert result.action == "refused" and result.figures["lead_over_champion"] == 0.0


def test_no_judging_event_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 2_500, fashion(2_500))
    seen: dict[str, Any] = {}

    def train(config: Any, log: Any, options: Any, start: Any, progress: Any, among: Any) -> Any:
        seen.update(log=log, among=among)
        return recipe_round.default_recipe()

    def judged(config: Any, log: Any, events: Any, recipes: Any, **options: Any) -> Any:
        seen["events"] = events
        misses = {name: np.full(len(events), np.inf) for name in (*recipes, "popularity", "recent_popularity")}
        return Judged(log.users[events], misses)

    monkeypatch.setattr(recipe_round, "train_recipe", train)
    monkeypatch.setattr(recipe_round, "judge", judged)
    assert "no hit" in trained(tmp_path).reason
    assert len(seen["log"]) == 2_500 and seen["among"].max() < 2_000 <= seen["events"].min()
    assert np.all(np.diff(seen["log"].times_s) >= 0)


def test_a_log_too_small_for_a_recipe_says_so(tmp_path: Path) -> None:
    append(tmp_path, 0, 120, fashion(120))
    result = trained(tmp_path)
    assert result.action == "skipped" and "a recipe needs" in result.reason


def test_time_that_is_up_ends_the_training_with_a_line(tmp_path: Path) -> None:
    append(tmp_path, 0, 1_500, fashion(1_500))
    result = trained(tmp_path, max_seconds=0.001)
    assert result.action == "skipped" and result.reason.isprintable()


def test_the_default_kinds_end_with_the_recipe() -> None:
    assert load_settings().trainer.kinds[-1] == "recipe"


def test_a_judgement_that_ran_out_of_time_says_how_far_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 2_500, fashion(2_500))
    default = recipe_round.default_recipe()
    monkeypatch.setattr(recipe_round, "train_recipe", lambda *arguments, **options: default)
    monkeypatch.setattr(recipe_round, "reporter", lambda max_seconds: lambda done, message: False)
    result = trained(tmp_path)
    assert result.action == "refused" and "fewer than min_targets" in result.reason
    assert "trainer.max_seconds was up after 64 of " in result.reason


MODEL = {"ials": {"factors": 8, "epochs": 4}}


def round_with_a_model(folder: Path, **options: Any) -> list[KindResult]:
    return run_job(job(folder, kinds=("ials", "recipe"), **{"options": OPTIONS | MODEL, "holdout": 0.3, "min_targets": 150, **options}))


def test_a_recipe_learns_the_weights_of_models_from_events_that_they_have_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 4_000, tastes(4_000))
    weigh, seen = recipe_round.with_model_weights, dict[str, Any]()

    def weighed(config: Any, log: Any, events: Any, recipe: Any, serving: Any, options: Any, progress: Any) -> Any:
        seen.update(events=events, serving=serving, recipe=recipe)
        return weigh(config, log, events, recipe, serving, options, progress)

    judge, judges = recipe_round.judge, list[Any]()

    def judged(config: Any, log: Any, events: Any, recipes: Any, **options: Any) -> Any:
        judges.append((events, options["serving"]))
        return judge(config, log, events, recipes, **options)

    monkeypatch.setattr(recipe_round, "with_model_weights", weighed)
    monkeypatch.setattr(recipe_round, "judge", judged)
    of_model, of_recipe = round_with_a_model(tmp_path)
    assert of_model.action == "promoted" and of_recipe.version is not None, (of_model.reason, of_recipe.reason)
    stored = ModelStore(str(tmp_path / "models")).load_stored("recipe", of_recipe.version).recipe
    assert stored.extras["ials"] != pytest.approx((0.5, 0.5)) and sum(stored.extras["ials"]) > 0.1
    ((events, serving),) = judges
    assert serving is seen["serving"] and set(serving.models) == {"ials"}
    assert seen["events"].min() >= 2_800 and seen["events"].max() < events.min(), "the model saw the first 2,800 events"
    np.testing.assert_array_equal(stored.linear, seen["recipe"].linear)


def test_a_kind_that_adds_too_little_to_the_list_is_retired_with_the_recipe_that_does_without_it(tmp_path: Path) -> None:
    append(tmp_path, 0, 4_000, tastes(4_000))
    of_model, of_recipe, retired = round_with_a_model(tmp_path, least_gain=0.9)
    assert (of_model.action, of_recipe.kind, retired.kind, retired.action) == ("promoted", "recipe", "ials", "retired")
    store = ModelStore(str(tmp_path / "models"))
    stored = store.load_stored("recipe", of_recipe.version or "")
    assert set(stored.manifest.gains) == {"ials"} and "ials" not in stored.recipe.extras
    assert {"challenger_without_ials", "champion_without_ials"} < set(stored.manifest.metrics)
    assert store.champion("ials") is None
    gain = measured_gain(store, "ials")
    assert gain is not None and gain["recipe"] == of_recipe.version and gain["low"] <= gain["mean"] <= gain["high"]
    assert measured_gain(store, "sasrec") is None


def test_models_take_no_part_where_too_few_new_events_are_left_to_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 4_000, tastes(4_000))
    monkeypatch.setattr(recipe_round, "with_model_weights", lambda *arguments: pytest.fail("a model's weights were learnt"))
    _, of_recipe = round_with_a_model(tmp_path, min_targets=600)
    assert of_recipe.version is not None, of_recipe.reason


def test_the_champion_that_serves_on_lists_events_that_it_has_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 3_000, tastes(3_000))
    (first,) = run_job(job(tmp_path, kinds=("ials",), options=MODEL))
    append(tmp_path, 3_000, 6_000, tastes(6_000)[3_000:])
    monkeypatch.setattr("workers.trainer.model_round.decide", refuse)
    seen = dict[str, Any]()
    weigh = recipe_round.with_model_weights

    def weighed(config: Any, log: Any, events: Any, recipe: Any, serving: Any, options: Any, progress: Any) -> Any:
        seen.update(events=events, serving=serving)
        return weigh(config, log, events, recipe, serving, options, progress)

    monkeypatch.setattr(recipe_round, "with_model_weights", weighed)
    of_model, _ = round_with_a_model(tmp_path)
    assert first.action == "promoted" and of_model.action == "refused"
    champion = ModelStore(str(tmp_path / "models")).load_stored("ials", "ials-000001").model
    np.testing.assert_array_equal(seen["serving"].models["ials"].item_vectors, champion.item_vectors)
    assert seen["events"].min() >= 3_000


def refuse(*arguments: Any) -> Any:
    return replace(decide(*arguments), promote=False)


def tastes(n_events: int) -> list[tuple[str, str, int]]:
    """A shop: each user chooses among the items of one of ten tastes."""
    random = np.random.default_rng(1)
    users, places = random.integers(N_USERS, size=n_events), random.integers(N_ITEMS // 10, size=n_events)
    chosen = enumerate(zip(users.tolist(), places.tolist(), strict=True))
    return [(f"u{user}", f"i{10 * place + user % 10}", START_MS + number * 30_000) for number, (user, place) in chosen]
