"""The catalogue reaches the training process as a file: what is on the topic, by the numbers that the log gives items."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import Item, encode
from tests.unit.workers.trainer.test_recipe_round import OPTIONS, fashion
from tests.unit.workers.trainer.test_training_round import append, job
from workers.settings import load_settings
from workers.trainer import recipe_round
from workers.trainer.catalogue_file import _write, read_catalogue
from workers.trainer.training_job import TrainingJob
from workers.trainer.training_round import run_job


def test_contents_are_read_by_position_and_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "catalogue"
    items = [Item(item_id="a", categories=("x",), published_ts_ms=1_700_000_000_000), Item(item_id="é", available=False)]
    _write(path, [(item.item_id.encode(), encode(item)) for item in items] + [(b"broken", b'{"item_id":7}'), (b"gone", b"{}")])
    found = read_catalogue(path, ["unknown", "é", "a", "broken"])
    assert found.keys() == {1, 2}
    assert tuple(found[2].categories) == ("x",) and found[2].published_s == 1_700_000_000
    assert found[1].available, "the catalogue does not say since when it is not"


def test_the_replay_knows_the_content_of_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 1_500, fashion(1_500))
    items = [Item(item_id=f"i{number}", categories=(f"c{number % 7}",)) for number in range(300)]
    _write(tmp_path / "catalogue", [(item.item_id.encode(), encode(item)) for item in items])
    seen = []

    def train(config: object, log: recipe_round.Log, *rest: object, **options: object) -> object:
        seen.append(log)
        return recipe_round.default_recipe()

    monkeypatch.setattr(recipe_round, "train_recipe", train)
    given = job(tmp_path, kinds=("recipe",), options=OPTIONS)
    run_job(given.model_copy(update={"catalogue": tmp_path / "catalogue"}))
    assert len(seen[0].contents) == len(set(seen[0].items.tolist()))
    assert all(len(content.categories) == 1 for content in seen[0].contents.values())


def test_without_a_catalogue_a_round_trains_no_recipe() -> None:
    assert "recipe" not in TrainingJob.of(load_settings(), {}).trainer.kinds
    assert "recipe" in TrainingJob.of(load_settings(), {}, Path("catalogue")).trainer.kinds
