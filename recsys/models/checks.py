"""Checks of models and their options before use: a stored model may be damaged or malicious."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.models.base import Histories, Model
from recsys.models.neighbour import NeighbourModel

MAX_WEIGHT = 1e6
"""Largest magnitude of a trained number; usual ones stay below 100. The squared length of 4,096 such numbers is finite in float32."""
MAX_SCORE = 1e30
"""Largest score of a probed history, so that sums over sources stay finite in float32 (3.4e38)."""
MAX_FACTORS = 4_096
MAX_HISTORY = 10_000
"""Largest number of newest interactions that a model may read; the state keeps at most 1,000."""
MAX_VECTORS = 16
"""Most vectors of one user: a list costs a search for each of them, and a user's row in Redis holds 63 in all."""
MAX_COUNT = 2**31 - 1
DEVICES = ("auto", "cpu", "cuda")
"""Where a model may be trained (`recsys.models.devices`)."""
_PROBED_ITEMS = 64

Bound = tuple[float, float]


def check_options(name: str, options: Any, bounds: Mapping[str, Bound]) -> None:
    """Check that each field of the dataclass `options` is a number of its type within its bounds (inclusive). Raises: ModelError."""
    for field in fields(options):
        if field.type == "str":  # one of several names, which the options check themselves
            continue
        value, (lowest, highest) = getattr(options, field.name), bounds[field.name]
        whole = field.type == "int"
        if value is None and str(field.type).endswith("| None"):
            continue
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not lowest <= value <= highest:
            kind = "a whole number" if whole else "a number"
            raise ModelError(f"{name} option {field.name}: got {value!r:.20}, needs {kind} from {lowest:g} to {highest:g}")


def known_options(kind: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the dataclass `kind` has. A model stored by a newer version may have more."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in options.items() if name in names}


def check_tensors(tensors: Mapping[str, NDArray[Any]]) -> None:
    """Check that all numbers are finite, and small enough that their products stay finite. Raises: ModelError."""
    for name, array in tensors.items():
        if not np.issubdtype(array.dtype, np.number):
            raise ModelError(f"tensor {name}: it holds no numbers")
        if not array.size:
            raise ModelError(f"tensor {name}: it is empty")
        if np.issubdtype(array.dtype, np.integer):  # places in other tensors, or numbers that are checked again as floats
            continue
        low, high = array.min(), array.max()  # both are NaN if any number is
        if not np.isfinite(low) or not np.isfinite(high):
            raise ModelError(f"tensor {name}: it holds numbers that are not finite")
        if max(abs(float(low)), abs(float(high))) > MAX_WEIGHT:
            raise ModelError(f"tensor {name}: it holds numbers beyond ±{MAX_WEIGHT:g}")


def check_model(model: Model) -> None:
    """Check that a model can serve: distinct items, finite numbers that are not all zero, finite scores. Raises: ModelError."""
    if not model.item_ids:
        raise ModelError("the model knows no items")
    if len(set(model.item_ids)) != len(model.item_ids):
        raise ModelError("two items of the model have one id")
    if isinstance(model, NeighbourModel):
        _check_neighbours(model)
        return
    vectors = model.item_vectors
    if vectors.ndim != 2 or vectors.shape[0] != len(model.item_ids) or not 1 <= vectors.shape[1] <= MAX_FACTORS:
        raise ModelError(f"item vectors have shape {vectors.shape}, expected ({len(model.item_ids)}, 1 to {MAX_FACTORS})")
    if not 1 <= model.history_length <= MAX_HISTORY:
        raise ModelError(f"the model reads {model.history_length} interactions, expected 1 to {MAX_HISTORY}")
    check_tensors(model.tensors())
    if not vectors.any():
        raise ModelError("all item vectors are zero, so every item would get the score 0")
    encoded = model.encode(_probes(len(model.item_ids), model.history_length))
    each = encoded.reshape(len(encoded), -1, encoded.shape[-1])  # (U, V, D)
    if each.shape != (2 * _PROBED_ITEMS, each.shape[1], vectors.shape[1]) or encoded.ndim > 3 or not np.isfinite(each).all():
        raise ModelError("the model makes numbers that are not finite of a history")
    if each.shape[1] > MAX_VECTORS:
        raise ModelError(f"the model makes {each.shape[1]} vectors of a history, at most {MAX_VECTORS} can serve")
    longest = float(np.sqrt(np.square(each, dtype=np.float64).sum(2).max()))
    if longest * float(np.sqrt(np.einsum("id,id->i", vectors, vectors).max())) > MAX_SCORE:  # Cauchy and Schwarz: no score is larger
        raise ModelError(f"the model makes scores beyond {MAX_SCORE:g}")


def _check_neighbours(model: NeighbourModel) -> None:
    """Check the rows of a model without vectors: a sum of `MAX_HISTORY` numbers up to `MAX_WEIGHT` is far below `MAX_SCORE`."""
    if not 1 <= model.history_length <= MAX_HISTORY:
        raise ModelError(f"the model reads {model.history_length} interactions, expected 1 to {MAX_HISTORY}")
    check_tensors(model.tensors())
    if not model.rows.values.any():
        raise ModelError("all weights of neighbours are zero, so every item would get the score 0")
    if not np.isfinite(model.scores(_probes(len(model.item_ids), model.history_length))).all():
        raise ModelError("the model makes numbers that are not finite of a history")


def _probes(n_items: int, history_length: int) -> Histories:
    """Return histories of one item and of as many as the model reads, liked and disliked, with items spread over the whole axis."""
    length = min(history_length, 200)
    spread = np.linspace(0, n_items - 1, _PROBED_ITEMS).astype(np.int32)
    items = np.full((2 * _PROBED_ITEMS, length), -1, np.int32)
    items[:_PROBED_ITEMS, -1] = spread
    items[_PROBED_ITEMS:] = (spread[:, None] + np.arange(length, dtype=np.int64)) % n_items
    weights = np.where(items >= 0, np.float32(1.0), np.float32(0.0))
    weights[_PROBED_ITEMS:, :-1:3] *= -1
    ages_s = np.where(items >= 0, np.arange(length, 0, -1, dtype=np.float32) * 60, np.float32(0.0))
    return Histories(items, weights, ages_s.astype(np.float32))
