"""The contract of every model kind: those of the registry and one registered here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import evaluate, evaluate_popularity
from recsys.models.base import F32, Histories, Model
from recsys.models.kind import ModelKind
from recsys.models.registry import CONTENT_KINDS, FACTOR_KINDS, MODELS, PAIR_KINDS, SEQUENCE_KINDS, load_model
from recsys.models.training_set import TrainingSet
from recsys.models.user_vectors import has_vector
from tests.unit.recsys.models.model_cases import N_ITEMS, clustered, histories_of

QUICK: dict[str, dict[str, Any]] = {
    "ials": {"factors": 16, "epochs": 6},
    "sasrec": {"factors": 16, "window": 16, "max_epochs": 12, "learning_rate": 1e-2, "patience": 12},
    "lightgcn": {"factors": 16, "max_epochs": 4},
    "two_tower": {"factors": 16, "hidden": 8, "max_epochs": 12, "learning_rate": 1e-2, "patience": 12},
    "comirec": {"factors": 16, "interests": 3, "max_epochs": 12, "learning_rate": 2e-2, "patience": 12},
    "neumf": {"factors": 16, "hidden": 8, "max_epochs": 12, "learning_rate": 2e-2, "patience": 12},
    "popular": {},
    "neighbour": {},
    "bpr": {"factors": 16, "learning_rate": 0.1},
    "biased_mf": {"factors": 16, "epochs": 6},
    "isgd": {"factors": 16, "learning_rate": 0.1, "regularisation": 0.01, "steps": 8, "negatives": 0},
    "item2vec": {"factors": 16, "epochs": 20, "subsample": 0.0},
}
LEARNS = ["ials", *SEQUENCE_KINDS, "neighbour", *FACTOR_KINDS, *PAIR_KINDS, *CONTENT_KINDS]


@dataclass(frozen=True)
class NeighbourConfig:
    seed: int = 0


class NeighbourModel:
    """A third kind, as a user of this project would add one: item vectors are rows of a co-occurrence matrix."""

    kind: ClassVar[str] = "neighbour"
    link: ClassVar[Literal["identity", "softmax"]] = "identity"

    def __init__(self, item_ids: list[str], item_vectors: F32) -> None:
        self.item_ids, self.item_vectors, self.history_length = item_ids, item_vectors, 10

    @property
    def config(self) -> dict[str, Any]:
        return asdict(NeighbourConfig())

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"item_vectors": self.item_vectors}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        return cls(item_ids, np.asarray(tensors["item_vectors"], np.float32))

    def encode(self, histories: Histories) -> F32:
        vectors = np.zeros((len(histories), self.item_vectors.shape[1]), np.float32)
        for column in range(histories.items.shape[1]):
            known = histories.items[:, column] >= 0
            vectors[known, histories.items[known, column]] += histories.weights[known, column]
        return vectors


def fit_neighbours(interactions: TrainingSet, config: NeighbourConfig, progress: Any = None, warm_start: Any = None) -> NeighbourModel:
    touched = np.zeros((interactions.n_users, interactions.n_items), np.float32)
    touched[interactions.users, interactions.items] = 1.0
    return NeighbourModel(interactions.item_ids, touched.T @ touched)


@pytest.fixture(scope="module", autouse=True)
def third_kind() -> Iterator[None]:
    MODELS["neighbour"] = ModelKind(NeighbourModel, NeighbourConfig, fit_neighbours)
    yield
    del MODELS["neighbour"]


@pytest.fixture(scope="module")
def interactions() -> TrainingSet:
    return clustered()


@pytest.fixture(scope="module")
def trained(third_kind: None, interactions: TrainingSet) -> dict[str, Model]:
    return {kind: MODELS[kind].fit(interactions, MODELS[kind].configure(QUICK[kind])) for kind in QUICK}


@pytest.fixture(params=list(QUICK))
def model(request: pytest.FixtureRequest, trained: dict[str, Model]) -> Model:
    return trained[request.param]


ROWS = [[1, 2, 3], [], [20, 21], [5] * 12, [80, 81, 82, 83]]


def test_model_satisfies_the_protocol_with_matching_axes(model: Model) -> None:
    assert isinstance(model, Model)
    assert model.item_vectors.shape[0] == len(model.item_ids) == N_ITEMS
    assert model.item_vectors.dtype == np.float32
    vectors = model.encode(histories_of(ROWS, model.history_length + 12))
    assert vectors.shape in ((len(ROWS), model.item_vectors.shape[1]), (len(ROWS), 3, model.item_vectors.shape[1]))
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()


def test_empty_history_gives_a_zero_vector_and_others_do_not(model: Model) -> None:
    vectors = model.encode(histories_of(ROWS, model.history_length + 12))
    assert not vectors[1].any()
    assert has_vector(vectors).tolist() == [True, False, True, True, True]
    nobody = model.encode(histories_of([], 4))
    assert nobody.shape == (0, *vectors.shape[1:])


def test_encode_is_deterministic_and_independent_of_the_batch(model: Model) -> None:
    histories = histories_of(ROWS, 12)
    together = model.encode(histories)
    assert np.array_equal(together, model.encode(histories))
    for row in range(len(ROWS)):
        alone = Histories(histories.items[[row]], histories.weights[[row]], histories.ages_s[[row]])
        np.testing.assert_allclose(model.encode(alone)[0], together[row], atol=1e-5)


def test_unknown_items_and_padding_width_change_nothing(model: Model) -> None:
    plain = model.encode(histories_of([[1, 2, 3]], 6))
    items = np.array([[1, -1, 2, -1, -1, 3]], np.int32)
    gaps = Histories(items, (items >= 0).astype(np.float32), np.array([[120, 0, 60, 0, 0, 0]], np.float32))
    np.testing.assert_allclose(model.encode(gaps), plain, atol=1e-5)
    np.testing.assert_allclose(model.encode(histories_of([[1, 2, 3]], 40)), plain, atol=1e-5)


def test_tensors_round_trip_encodes_identically(model: Model) -> None:
    again = load_model(model.kind, model.config, model.item_ids, {name: array.copy() for name, array in model.tensors().items()})
    histories = histories_of(ROWS, 12)
    assert again.config == model.config
    assert np.array_equal(again.item_vectors, model.item_vectors)
    assert np.array_equal(again.encode(histories), model.encode(histories))


def test_the_same_seed_trains_the_same_model(model: Model, interactions: TrainingSet) -> None:
    again = MODELS[model.kind].fit(interactions, MODELS[model.kind].configure(QUICK[model.kind]))
    for name, array in model.tensors().items():
        np.testing.assert_allclose(again.tensors()[name], array, atol=1e-5)


@pytest.mark.parametrize("kind", LEARNS)
def test_quality_floor_twice_popularity_on_clustered_users(kind: str, trained: dict[str, Model]) -> None:
    other = clustered(n_users=120, seed=17)
    part = Slice.cut(other.users, other.items, other.item_ids, other.weights, other.ts_ms, int(np.quantile(other.ts_ms, 0.5)))
    judged, popular = evaluate(trained[kind], part), evaluate_popularity(part)
    assert judged["n_targets"] == popular["n_targets"] > 100
    assert judged["recall@10"] > 2 * popular["recall@10"]
    assert judged["recall@10"] > 0.35


@pytest.mark.parametrize("kind", list(QUICK))
def test_warm_start_takes_a_model_with_other_items(kind: str, trained: dict[str, Model], interactions: TrainingSet) -> None:
    chosen = interactions.items < 60
    fewer = TrainingSet.from_columns(
        interactions.users[chosen],
        interactions.items[chosen],
        interactions.item_ids,
        interactions.weights[chosen],
        interactions.ts_ms[chosen],
    )
    model = MODELS[kind].fit(fewer, MODELS[kind].configure(QUICK[kind]), None, trained[kind])
    assert model.item_ids == fewer.item_ids
    assert np.isfinite(model.encode(histories_of([[1, 2]], 4))).all()


@pytest.mark.parametrize("kind", list(QUICK))
def test_progress_reaches_one_or_ends_the_training(kind: str, interactions: TrainingSet) -> None:
    reported: list[float] = []

    def stop_at_once(done: float, message: str) -> bool:
        reported.append(done)
        return False

    model = MODELS[kind].fit(interactions, MODELS[kind].configure(QUICK[kind]), stop_at_once)
    assert len(reported) <= 1
    assert np.isfinite(model.item_vectors).all()
