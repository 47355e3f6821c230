"""The training benchmark: no training on the future, a log that reads back unchanged, a correct reading of `implicit`."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from benchmarks import train
from benchmarks.datasets import Stream, generated_stream
from recsys.evaluation.ranking import evaluate, evaluate_popularity
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import histories_of


@pytest.fixture(scope="module")
def stream() -> Stream:
    return generated_stream(6_000, seed=1, n_users=120, n_items=400)


def test_slices_follow_what_is_trained_on(stream: Stream) -> None:
    split = train.Split.of(stream)
    assert split.training.ts_ms.max() < split.validation.split_ts_ms <= split.before_test.ts_ms.max() < split.test.split_ts_ms
    assert split.validation.ts_ms.max() < split.test.split_ts_ms
    assert len(split.training) == 4_800 and len(split.before_test) == 5_400


def test_the_log_gives_back_every_event_that_was_written(stream: Stream, tmp_path: Path) -> None:
    read = train.read_log(train.write_log(stream, tmp_path))
    _, users = np.unique(np.array(stream.users), return_inverse=True)
    ids, items = np.unique(np.array(stream.items), return_inverse=True)
    straight = TrainingSet.from_columns(users, items, ids.tolist(), np.ones(len(users), np.float32), stream.times_s * 1000)

    def in_time(made: TrainingSet) -> list[tuple[int, str, float]]:
        columns = zip(made.ts_ms.tolist(), made.items.tolist(), made.weights.tolist(), strict=True)
        return sorted((ts_ms, made.item_ids[item], weight) for ts_ms, item, weight in columns)

    assert in_time(read) == in_time(straight)
    assert sorted(np.diff(read.user_starts()).tolist()) == sorted(np.diff(straight.user_starts()).tolist())


def test_sweeps_needed_is_the_first_close_to_where_it_ends() -> None:
    assert train.sweeps_needed([0.1, 0.4, 0.4975, 0.5, 0.5, 0.5, 0.5, 0.5]) == 3
    assert train.sweeps_needed([0.5] * 5) == 1


def test_runs_take_turns() -> None:
    ran: list[str] = []
    times = train.timed({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, 2)
    assert ran == ["a", "b", "a", "b"]
    assert len(times["a"].wall.values) == len(times["b"].cpu.values) == 2


def test_the_rivals_model_is_its_own_exact_solve_and_learns(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("implicit", reason="the extra `bench` is not installed")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about BLAS threads, which no timing depends on here
        split = train.Split.of(stream)
        heard: list[float] = []
        model = train.fit_implicit(
            split.training,
            6,
            lambda after: heard.append(evaluate(after, split.validation)["ndcg@10"]),
            alpha=3.0,
            regularization=10.0,
        )
    assert len(heard) == 6 and heard[-1] == evaluate(model, split.validation)["ndcg@10"]
    assert heard[-1] > evaluate_popularity(split.validation)["ndcg@10"]
    y = model.item_vectors.astype(np.float64)
    touched = [3, 8, 11]
    system = y.T @ y + 2.0 * y[touched].T @ y[touched] + 10.0 * np.eye(y.shape[1])  # confidence 3 instead of 1
    expected = np.linalg.solve(system, 3.0 * y[touched].sum(0))
    np.testing.assert_allclose(model.encode(histories_of([touched], 5))[0], expected, rtol=1e-3, atol=1e-4)
