"""Items that came after the training: their vectors are solved from the users who touched them, as a sweep of training would.

Shapes: U users of the log, I known items, N new ones, D factors.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from recsys.errors import ModelError
from recsys.models.base import F32
from recsys.models.ials.model import IALSModel
from recsys.models.ials.ridge import SparseRows
from recsys.models.ials.sweeps import half_sweep
from recsys.models.training import warm_rows
from recsys.models.training_set import TrainingSet


def extended(model: IALSModel, interactions: TrainingSet) -> IALSModel:
    """Return a model that also knows the items of `interactions` that somebody likes; what it knew before stays as it is.

    `interactions` are the log so far, of all users: their vectors X (U, D) are solved from the items that the model knows, and then those
    of new items y, each against X: (α₀ XᵀX + Σ |w| xxᵀ + λ (n + α₀ U)^ν E) y = Σ_{w>0} w x over its n users. An item whose users like
    nothing that the model knows gets no vector. Costs one sweep of training over users, and one over the new items.
    Raises: ModelError for weights that are not finite.
    Source: Hu, Koren & Volinsky 2008, eq. 5, for one side.
    """
    if not np.isfinite(interactions.weights).all():
        raise ModelError("ials: the weights of interactions must be finite numbers; leave those out that are not")
    entries, config = interactions.entries(model.history_length), model.settings
    position = np.full(entries.n_items, -1, np.int64)
    here, there = warm_rows(entries.item_ids, model.item_ids)
    position[here] = there
    is_old = position[entries.items] >= 0
    new = np.flatnonzero(position < 0)
    if not len(new) or not is_old.any():
        return model
    of_new = np.full(entries.n_items, -1, np.int64)
    of_new[new] = np.arange(len(new))
    with torch.inference_mode():
        shape = entries.n_users, len(model.item_ids)
        by_user = _rows(entries.weights[is_old], entries.users[is_old], position[entries.items[is_old]], shape)
        known = torch.from_numpy(model.item_vectors)
        users = half_sweep(by_user, known, torch.zeros((entries.n_users, config.factors)), config)
        by_item = _rows(entries.weights[~is_old], of_new[entries.items[~is_old]], entries.users[~is_old], (len(new), entries.n_users))
        found: F32 = half_sweep(by_item, users, torch.zeros((len(new), config.factors)), config).numpy()
    solved = np.flatnonzero(found.any(axis=1))
    ids = [entries.item_ids[i] for i in new[solved].tolist()]
    return IALSModel(config, [*model.item_ids, *ids], np.concatenate((model.item_vectors, found[solved])))


def _rows(weights: F32, rows: NDArray[np.integer], columns: NDArray[np.integer], shape: tuple[int, int]) -> SparseRows:
    """Return entries as rows of a sparse matrix, each pair of a row and a column once."""
    matrix = sparse.csr_array((weights, (rows, columns)), shape=shape)
    matrix.sort_indices()
    return SparseRows(matrix.indptr, matrix.indices, matrix.data, shape[1])
