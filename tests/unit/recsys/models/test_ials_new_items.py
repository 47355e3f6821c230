"""iALS takes in items that came after its training."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ModelError, ShapeError
from recsys.evaluation.new_items import outcome_with_new_items
from recsys.evaluation.outcome import outcome_of
from recsys.evaluation.protocol import Slice
from recsys.evaluation.splits import held_out, one_by_one
from recsys.models.ials.config import IALSConfig
from recsys.models.ials.model import IALSModel, fit
from recsys.models.ials.new_items import extended
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import clustered

OPTIONS = IALSConfig(factors=8, epochs=5, unobserved_weight=0.1, regularisation=0.005, tolerance=0.0)


def only(whole: TrainingSet, kept: np.ndarray) -> TrainingSet:
    columns = whole.users[kept], whole.items[kept], whole.item_ids, whole.weights[kept], whole.ts_ms[kept]
    return TrainingSet.from_columns(*columns)


@pytest.fixture(scope="module")
def log() -> TrainingSet:
    return clustered()


@pytest.fixture(scope="module")
def model(log: TrainingSet) -> IALSModel:
    """A model that knows nothing of every fifth item."""
    return fit(only(log, log.items % 5 != 0), OPTIONS)


def test_a_new_item_solves_its_system_against_the_users_who_touched_it(log: TrainingSet, model: IALSModel) -> None:
    found = extended(model, log)
    assert found.item_ids[: len(model.item_ids)] == model.item_ids and set(found.item_ids) == set(log.item_ids)
    assert np.array_equal(found.item_vectors[: len(model.item_ids)], model.item_vectors)
    known = {item_id: at for at, item_id in enumerate(model.item_ids)}
    touched = np.zeros((log.n_users, log.n_items))
    touched[log.users, log.items] = 1
    old = np.array([item_id in known for item_id in log.item_ids])
    axis = [known[item_id] for item_id in np.array(log.item_ids)[old].tolist()]
    seen = np.zeros((log.n_users, len(known)))
    seen[:, axis] = touched[:, old]

    def solved(fixed: np.ndarray, rows: np.ndarray) -> np.ndarray:
        alpha, ridge, found = 0.1, 0.005, []
        for row in rows:
            size = ridge * (row.sum() + alpha * len(fixed)) * np.eye(fixed.shape[1])
            found.append(np.linalg.solve(alpha * fixed.T @ fixed + (fixed * row[:, None]).T @ fixed + size, row @ fixed))
        return np.array(found)

    users = solved(model.item_vectors.astype(float), seen)
    expected = solved(users, touched[:, ~old].T)
    places = [found.item_ids.index(item_id) for item_id in np.array(log.item_ids)[~old].tolist()]
    np.testing.assert_allclose(found.item_vectors[places], expected, atol=1e-4)


def test_without_anything_new_to_learn_from_the_model_stays(log: TrainingSet, model: IALSModel) -> None:
    assert extended(model, only(log, log.items % 5 != 0)) is model
    assert extended(model, only(log, log.items % 5 == 0)) is model  # whose users are not known
    disliked = TrainingSet.from_columns(
        log.users, log.items, log.item_ids, np.where(log.items % 5 == 0, -1, 1).astype(np.float32), log.ts_ms
    )
    assert extended(model, disliked).item_ids == model.item_ids
    bad = TrainingSet.from_columns(log.users, log.items, log.item_ids, np.where(log.items == 0, np.nan, 1).astype(np.float32), log.ts_ms)
    with pytest.raises(ModelError, match="finite"):
        extended(model, bad)


def test_new_items_are_found_while_the_events_of_a_test_come_in(log: TrainingSet) -> None:
    late = (log.items % 5 == 0) & (log.ts_ms < np.quantile(log.ts_ms, 0.6))  # their events of the training part never happened
    kept = ~late
    split = int(np.quantile(log.ts_ms, 0.6))
    part = Slice.cut(log.users[kept], log.items[kept], log.item_ids, log.weights[kept], log.ts_ms[kept], split)
    cases = one_by_one(part, "discovery")
    trained = fit(cases.training(), OPTIONS)
    before, after = outcome_of(trained, cases), outcome_with_new_items(trained, extended, cases, 10)
    assert before.n_unknown_items > 50 and after.n_unknown_items < before.n_unknown_items / 2
    is_new = cases.targets % 5 == 0
    assert after.metrics["hr@10"][is_new].mean() > 0.3 > before.metrics["hr@10"][is_new].mean() == 0
    assert after.metrics["hr@10"][~is_new].mean() > before.metrics["hr@10"][~is_new].mean() - 0.15
    with pytest.raises(ShapeError, match="discovery"):
        outcome_with_new_items(trained, extended, held_out(part), 2)
