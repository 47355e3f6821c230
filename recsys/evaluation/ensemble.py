"""One ranking from several models: a weighted sum of what each says of an item, with weights learnt on validation cases.

Each model gives two signals of an item: its score, standardised over the items that the model knows, and the logarithm of its place among
them. Weights are at least zero and minimise the softmax cross-entropy of the target among other items of its case. Source: Cao et al. 2007
(ListNet, probability of the top place).

Shapes: U histories, I items, M models, F = 2 M signals, T targets, K other items of a case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import rankdata

from recsys.errors import TooFewInteractions
from recsys.evaluation.cases import Cases
from recsys.evaluation.metrics import F64
from recsys.evaluation.model_scores import scores_of
from recsys.models.base import F32, I32, Histories, Model

OTHERS = 300
"""Other items of a case from which weights are learnt: those that the models together rank first, or random ones where the test ranks a
target among given items."""
MAX_TARGETS = 2_000
"""Targets from which weights are learnt, evenly chosen; there are few weights."""
PENALTY = 1e-4
"""Weight of the squares of the weights, per target."""
_LEAST = 1e-6
"""Weights below this are none."""
_BLOCK_SIGNALS = 8_000_000
"""Signals held at once: 32 MB."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Models that rank together. `item_ids` are those that one of them knows, `axes` (M, I) their positions on each model's own axis, −1
    for none; `weights` (F,)."""

    kind: ClassVar[str] = "ensemble"
    models: Sequence[Model]
    item_ids: list[str]
    axes: Sequence[I32]
    weights: F32

    @classmethod
    def of(cls, models: Sequence[Model], weights: F32 | None = None) -> Ensemble:
        """Return an ensemble of models; without weights the scores of all count alike."""
        item_ids = list(dict.fromkeys(item_id for model in models for item_id in model.item_ids))
        axes = []
        for model in models:
            place = {item_id: position for position, item_id in enumerate(model.item_ids)}
            axes.append(np.array([place.get(item_id, -1) for item_id in item_ids], np.int32))
        alike = np.array([1.0, 0.0] * len(models), np.float32)
        return cls(list(models), item_ids, axes, alike if weights is None else weights)

    @property
    def history_length(self) -> int:
        """Return how many of the newest interactions the model with the longest memory reads."""
        return max(model.history_length for model in self.models)

    def scores(self, histories: Histories) -> F32:
        """Return the scores of all items, (U, I); 0 for a history that no model can read."""
        signals, readable = self.signals(histories)
        scores: F32 = signals @ self.weights
        scores[~readable] = 0
        return scores

    def signals(self, histories: Histories) -> tuple[F32, NDArray[np.bool_]]:
        """Return the signals of all items, (U, I, F), and which histories one of the models can read, (U,).

        A model says nothing, zeros, of a history that it cannot read. Items that it does not know have the score and place of its last.
        """
        signals = np.zeros((len(histories), len(self.item_ids), 2 * len(self.models)), np.float32)
        any_readable = np.zeros(len(histories), np.bool_)
        for at, (model, axis) in enumerate(zip(self.models, self.axes, strict=True)):
            scores, readable = scores_of(model, _read_by(model, histories, axis))
            known = np.flatnonzero(axis >= 0)
            own = np.where(np.isfinite(scores), scores, 0)[:, axis[known]]
            spread = own.std(axis=1, keepdims=True)
            standard = (own - own.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
            ranks = rankdata(-own, axis=1)  # ties share their mean place
            for signal, values in ((2 * at, standard), (2 * at + 1, -np.log(ranks))):
                signals[:, :, signal] = values.min(axis=1, keepdims=True)
                signals[:, known, signal] = values
            signals[~readable, :, 2 * at : 2 * at + 2] = 0
            any_readable |= readable
        return signals, any_readable

    def named_weights(self) -> dict[str, dict[str, float]]:
        """Return the weights of score and place by model kind."""
        pairs = self.weights.reshape(-1, 2).tolist()
        return {model.kind: {"score": score, "place": place} for model, (score, place) in zip(self.models, pairs, strict=True)}


def learnt(models: Sequence[Model], cases: Cases, *, among_random: bool, seed: int = 0) -> F32:
    """Return the weights (F,) with which models, trained on the training part of these validation cases, rank the targets best.

    `among_random`: a target competes with random items, as where the test ranks it among some that were drawn; otherwise with those that
    all models together rank first. `seed` draws them.
    Raises: TooFewInteractions where no target can be ranked.
    """
    ensemble = Ensemble.of(models)
    own, others, gaps = _examples(ensemble, cases, among_random, np.random.default_rng(seed))
    if not len(own):
        raise TooFewInteractions("ensemble: no target of the validation part can be ranked by the models")

    def loss(weights: F64) -> tuple[float, F64]:
        sums = np.concatenate(((own @ weights)[:, None], np.where(gaps, -np.inf, others @ weights)), axis=1)  # (T, 1 + K)
        total = logsumexp(sums, axis=1)
        shares = np.exp(sums - total[:, None])
        slope = shares[:, :1] * own + np.einsum("tk,tkf->tf", shares[:, 1:], others) - own
        value = float(np.mean(total - sums[:, 0])) + PENALTY * float(weights @ weights)
        return value, slope.mean(axis=0) + 2 * PENALTY * weights

    start = ensemble.weights.astype(np.float64)
    found = np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(start)).x, np.float32)
    return found if found.max() > _LEAST else ensemble.weights  # models that say nothing of the targets count alike


def _examples(
    ensemble: Ensemble, cases: Cases, among_random: bool, random: np.random.Generator
) -> tuple[F64, F64, NDArray[np.bool_]]:
    """Return the signals of targets (T, F), those of the other items of their cases (T, K, F), and where a case has fewer (T, K)."""
    part = cases.part
    place = {item_id: position for position, item_id in enumerate(ensemble.item_ids)}
    to_own = np.array([place.get(item_id, -1) for item_id in part.item_ids], np.int32)
    known = np.flatnonzero(to_own >= 0)
    able = np.flatnonzero(to_own[cases.targets] >= 0)
    if len(able) > MAX_TARGETS:
        able = able[np.linspace(0, len(able) - 1, MAX_TARGETS).astype(np.int64)]
    n_others = min(OTHERS, len(known) - 1)
    repeats, found = part.repeats(), list[tuple[F32, F32, NDArray[np.bool_]]]()
    step = max(1, _BLOCK_SIGNALS // max(1, len(ensemble.item_ids) * len(ensemble.weights)))
    for chosen in np.array_split(able, -(-len(able) // step)) if len(able) and n_others > 0 else ():
        cases_of, rows = cases.case_of[chosen], np.arange(len(chosen))
        signals, readable = ensemble.signals(part.histories(cases.rows[cases_of], ensemble.history_length, to_own, repeats))
        free = np.zeros(signals.shape[:2], np.bool_)
        free[:, to_own[known]] = np.stack([cases.ranked(slice(case, case + 1))[0] for case in cases_of.tolist()])[:, known]
        targets = to_own[cases.targets[chosen]]
        free[rows, targets] = False
        order = random.random(free.shape, np.float32) if among_random else signals @ ensemble.weights
        best = np.argpartition(np.where(free, -order, np.inf), n_others - 1, axis=1)[:, :n_others]
        gaps = ~free[rows[:, None], best]
        found.append((signals[rows, targets][readable], signals[rows[:, None], best][readable], gaps[readable]))
    if not found:
        width = len(ensemble.weights)
        return np.zeros((0, width)), np.zeros((0, 0, width)), np.zeros((0, 0), np.bool_)
    own, others, missing = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return own.astype(np.float64), others.astype(np.float64), missing


def _read_by(model: Model, histories: Histories, axis: NDArray[np.int32]) -> Histories:
    """Return histories on the ensemble's axis as one of its models reads them: `axis` (I,) are positions on its own."""
    length = min(model.history_length, histories.items.shape[1])
    newest = slice(histories.items.shape[1] - length, None)
    items = histories.items[:, newest]
    own = np.where(items >= 0, axis[np.maximum(items, 0)], np.int32(-1)).astype(np.int32)
    types = None if histories.types is None else histories.types[:, newest]
    return Histories(own, histories.weights[:, newest], histories.ages_s[:, newest], histories.gaps_s, types)
