"""Training of SLIM."""

from __future__ import annotations

import numpy as np

from recsys.models.neighbour_rows import NeighbourRows
from recsys.models.preferences import binary, check_memory, gram, most_popular, preferences
from recsys.models.slim import descent_kernel
from recsys.models.slim.config import SLIMConfig
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet

BYTES_A_PAIR = 12
"""The Gram matrix in float32, and weights of which many may be above 0."""
_RIDGE = 2.0
"""β₂ in mean numbers of users of an item, where it is not set: what suits logs of 12 users an item and of 268 alike (docs/models.md)."""
_BLOCK = 64
"""Items that are solved between two reports of progress."""


def weights_of(interactions: TrainingSet, config: SLIMConfig, progress: Progress | None = None) -> tuple[NeighbourRows, list[str]]:
    """Return the rows of W and the ids of its items. `progress` may stop the training after any block of items; those that are left have
    no neighbours. Raises: TooFewInteractions, ModelError beyond the memory.

    Column i of W minimises ½‖xᵢ − Xw‖² + β₁‖w‖₁ + ½β₂‖w‖² with w ≥ 0 and w_i = 0. X is binary. Source: Ning & Karypis 2011, eq. 3.
    """
    matrix = binary(preferences(interactions, config.history_length, "slim"))
    kept = most_popular(matrix, config.max_items)
    check_memory("slim", len(kept), BYTES_A_PAIR, config.memory_mb)
    shared, n_items, parts = gram(matrix[:, kept], np.float32), len(kept), []
    l2 = _RIDGE * float(np.trace(shared)) / max(n_items, 1) if config.l2 is None else config.l2
    for start in range(0, n_items, _BLOCK):
        end = min(start + _BLOCK, n_items)
        weights = np.empty((end - start, n_items), np.float32)
        descent_kernel.descend(shared, start, end, config.l1, l2, config.max_sweeps, config.tolerance, weights)
        parts.append(NeighbourRows.of_dense(weights, config.neighbours))
        if not go_on(progress, end / n_items, f"slim: solved {end:,} of {n_items:,} items"):
            parts.append(NeighbourRows.empty(n_items - end))
            break
    return NeighbourRows.joined(parts).transposed(n_items), [interactions.item_ids[i] for i in kept.tolist()]
