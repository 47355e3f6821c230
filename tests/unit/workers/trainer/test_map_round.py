"""A round stores a model with the map from content that its items' descriptions allow, and without one where they say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys.evaluation import content_maps
from recsys.models.content_map import MappedModel
from schemas import Item, encode
from tests.unit.recsys.models.model_cases import ITEMS_PER_CLUSTER, N_ITEMS
from tests.unit.workers.trainer.test_training_round import FIRST, append, job
from workers.content_settings import ContentSettings
from workers.models.model_files import StoredModel
from workers.models.store import ModelStore
from workers.trainer import map_round
from workers.trainer.catalogue_file import _write
from workers.trainer.training_round import run_job


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, **content: Any) -> StoredModel:
    """Run one round over clustered users whose items say their cluster; return the champion."""
    monkeypatch.setattr(content_maps, "LEAST_ITEMS", 40)
    append(folder, 0, FIRST)
    items = [Item(item_id=f"item-{n}", categories=(f"c{n // ITEMS_PER_CLUSTER}",)) for n in range(N_ITEMS)]
    _write(folder / "catalogue", [(item.item_id.encode(), encode(item)) for item in items])
    asked = job(folder).model_copy(update={"content": ContentSettings(**content), "catalogue": folder / "catalogue"})
    assert [result.action for result in run_job(asked)] == ["promoted"]
    return ModelStore(str(folder / "models")).load_stored("ials", "ials-000001")


def test_a_promoted_model_has_a_map_that_fits_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = trained(tmp_path, monkeypatch, maps=True).served
    assert isinstance(served, MappedModel)
    assert {f"category\x1fc{cluster}" for cluster in range(N_ITEMS // ITEMS_PER_CLUSTER)} <= set(served.content_map.features.values)


def test_without_the_setting_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = trained(tmp_path, monkeypatch)
    assert stored.served is stored.model and not any(name.startswith("content_map") for name in stored.manifest.tensors)


def test_a_map_that_cannot_be_learnt_keeps_no_model_from_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(map_round, "learn_map", fails)
    stored = trained(tmp_path, monkeypatch, maps=True)
    assert stored.served is stored.model
