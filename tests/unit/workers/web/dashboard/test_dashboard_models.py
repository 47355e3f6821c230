"""Models on pages: versions with the gate's figures, rollback and training for admins only."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.lists.default_recipe import default_recipe
from recsys.lists.recipe import Recipe
from recsys.models.ials import model as ials
from schemas import ModelAction, ModelAnnouncement
from tests.dashboard import SCRIPT, DashboardWorld, dashboard
from workers.models.manifest import TrainedOn
from workers.models.store import ModelStore
from workers.settings import Settings
from workers.web.dashboard.model_pages import ModelPages, Trainings, share_with_interval
from workers.web.problems import Problem


def save(store: ModelStore, decision: str = "better", recipe: Recipe | None = None) -> str:
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    return store.save(
        recipe or ials.IALSModel(ials.IALSConfig(factors=4), ["a", "b", "c"], vectors),
        parent=None,
        metrics={"challenger": {"ndcg@10": 0.2345, "recall@10": 0.5, "n_targets": 100.0}, "popularity": {"ndcg@10": 0.05}},
        decision=decision,
        trained_on=TrainedOn(n_events=9, first_event_ts_ms=1_700_000_000_000, last_event_ts_ms=1_700_000_000_009, next_offsets={0: 4}),
        trained_ts_ms=1_700_000_001_000,
        train_s=0.5,
        refit=None,
        code_version="1",
    ).version


class World:
    """A dashboard on a model store in a folder, and what it announced."""

    def __init__(self, inner: DashboardWorld, folder: Path) -> None:
        self.inner, self.store = inner, ModelStore(str(folder))
        self.announced: list[ModelAnnouncement] = []
        inner.replace_parts(models=ModelPages(inner.settings, open_store=lambda _: self.store, announcing=self._announce))

    async def _announce(self, settings: Settings, announcements: list[ModelAnnouncement]) -> None:
        self.announced += announcements


async def test_versions_are_shown_with_the_gates_figures_and_an_interval(tmp_path: Path) -> None:
    async with dashboard() as inner:
        world = World(inner, tmp_path)
        assert "No model has been stored yet" in await inner.page("/models", "reader")
        first, second = save(world.store), save(world.store, SCRIPT)
        world.store.promote("ials", first)
        text = await inner.page("/models", "reader")
        assert text.index(second) < text.rindex(first) and "0.2345" in text and "40.4\u202f%" in text and "59.6\u202f%" in text
        assert "&lt;script&gt;" in text and "<script>alert" not in text
        page = await inner.page(f"/models/ials/{first}", "reader")
        assert "recall@10" in page and "factors" in page and "serves" in page
        assert (await inner.get("/models/ials/ials-000009", "reader")).status_code == 404
        assert (await inner.get("/models/..%2F..%2Fetc/passwd", "reader")).status_code == 404


async def test_the_largest_weights_of_the_recipe_that_serves_are_shown(tmp_path: Path) -> None:
    async with dashboard() as inner:
        world = World(inner, tmp_path)
        version = save(world.store, recipe=default_recipe())
        assert "Largest weights" not in await inner.page("/models", "reader")
        world.store.promote("recipe", version)
        text = await inner.page("/models", "reader")
        assert f"Largest weights of {version}" in text and "cooccurrence" in text


async def test_a_rollback_lets_the_version_before_serve_and_announces_it(tmp_path: Path) -> None:
    async with dashboard() as inner:
        world = World(inner, tmp_path)
        first, second = save(world.store), save(world.store)
        for version in (first, second):
            world.store.promote("ials", version)
        assert "rollback" not in await inner.page("/models", "reader")
        assert (await inner.post("/api/models/ials/rollback", {}, "writer")).status_code == 403
        assert world.store.champion("ials") == second
        answer = await inner.post("/api/models/ials/rollback", {}, "admin")
        assert answer.json() == {"version": first, "before": second} and world.store.champion("ials") == first
        (announced,) = world.announced
        assert announced.action is ModelAction.ROLLED_BACK and announced.version == first
        assert (await inner.post("/api/models/nothing/rollback", {}, "admin")).status_code == 404
        assert (await inner.post("/api/models/ials/rollback", {}, "admin")).status_code == 409, "there is nothing before it"


async def until_ended(trainings: Trainings) -> None:
    async with asyncio.timeout(60):
        await trainings.wait()


def says(text: str, code: int = 0) -> Trainings:
    return Trainings([sys.executable, "-S", "-c", f"import sys; print({text!r}, file=sys.std{'err' if code else 'out'}); sys.exit({code})"])


async def test_a_training_runs_beside_the_pages_once_at_a_time_and_its_results_are_shown(tmp_path: Path) -> None:
    result: dict[str, Any] = {"kind": "ials", "action": "promoted", "version": "ials-000001", "reason": SCRIPT}
    async with dashboard() as inner:
        World(inner, tmp_path)
        trainings = says(json.dumps([result]))
        inner.replace_parts(trainings=trainings)
        assert (await inner.post("/api/training", {}, "writer")).status_code == 403
        assert (await inner.post("/api/training", {}, "admin")).status_code == 202
        assert (await inner.post("/api/training", {}, "admin")).status_code == 409
        await until_ended(trainings)
        text = await inner.page("/models", "admin")
        assert "ials-000001" in text and "promoted" in text and "<script>alert" not in text


async def test_a_training_that_fails_says_its_last_line() -> None:
    trainings = says("first\nthe log is empty", 1)
    trainings.start()
    with pytest.raises(Problem):
        trainings.start()
    await until_ended(trainings)
    assert trainings.failure == "the log is empty" and not trainings.results


def test_an_interval_stays_between_nothing_and_all() -> None:
    for share, n in ((0.0, 5.0), (1.0, 5.0), (0.3, 1.0)):
        _, low, high = share_with_interval(share, n)
        assert -1e-9 <= low <= share <= high <= 1 + 1e-9
