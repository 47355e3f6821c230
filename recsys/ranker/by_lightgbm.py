"""Trees by LightGBM's LambdaMART, on top of the recipe's scores. LightGBM trains; what it made is read into arrays, and workers need none
of it.

Shapes: M nodes of a tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.lists.learned.forest import MAX_LEAVES, NO_NODE, Forest
from recsys.models.training import Progress, go_on
from recsys.ranker.budget import RankerOptions
from recsys.ranker.rows import Rows

F32 = NDArray[np.float32]

_REJECTED_AGAINST = 10
"""Candidates, the first by the recipe, that rank above an item which the user rejected."""


def fit(training: Rows, newest: Rows, options: RankerOptions, progress: Progress | None = None) -> Forest | None:
    """Return the trees that rank the `newest` cases best, None if no tree does better than the recipe alone.

    Raises: ModelError if LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError:
        raise ModelError("ranker option learner: 1 needs LightGBM; install the extra lightgbm, or choose 0") from None
    parameters = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [10],
        "lambdarank_truncation_level": options.truncation,
        "num_leaves": min(options.leaves, MAX_LEAVES),
        "learning_rate": options.learning_rate,
        "min_data_in_leaf": options.least_rows,
        "lambda_l2": options.ridge,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "use_missing": False,
        "num_threads": 1,
        "deterministic": True,
        "force_col_wise": True,
        "seed": options.seed,
        "verbosity": -1,
    }
    train = lightgbm.Dataset(training.features, **_labels(training), init_score=training.scores.astype(np.float64))
    valid = lightgbm.Dataset(newest.features, **_labels(newest), init_score=newest.scores.astype(np.float64), reference=train)

    def watched(env: Any) -> None:
        if not go_on(progress, (env.iteration + 1) / options.trees, f"ranker: tree {env.iteration + 1}"):
            raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list)

    callbacks: list[Callable[..., Any]] = [lightgbm.early_stopping(options.patience, verbose=False), watched]
    booster = lightgbm.train(parameters, train, options.trees, [valid], callbacks=callbacks)
    trees = booster.dump_model(num_iteration=booster.best_iteration)["tree_info"]
    made = [tree_of(one["tree_structure"]) for one in trees if "split_feature" in one["tree_structure"]]
    return Forest.joined(made) if made else None


def _labels(rows: Rows) -> dict[str, Any]:
    """Return what LightGBM reads besides features: the chosen item above all others, a rejected one below the first of them."""
    label, weight = np.zeros(len(rows.scores), np.int32), np.repeat(np.abs(rows.weights), rows.counts)
    chosen = rows.weights > 0
    label[rows.targets[chosen]] = 1
    for case in np.flatnonzero(~chosen).tolist():
        first = slice(int(rows.starts[case]), int(min(rows.starts[case] + _REJECTED_AGAINST, rows.starts[case + 1])))
        label[first] = 1
        label[rows.targets[case]] = 0
    return {"label": label, "weight": weight, "group": rows.counts.astype(np.int64)}


def tree_of(structure: Mapping[str, Any]) -> Forest:
    """Return a tree of LightGBM's JSON. A threshold becomes the largest float32 that is not above it: float32 features go the same way.

    Raises: ModelError for a split that is no comparison.
    """
    features, thresholds, left, right, values = list[int](), list[float](), list[int](), list[int](), list[float]()
    waiting: list[tuple[Mapping[str, Any], int, list[int]]] = [(structure, NO_NODE, left)]
    while waiting:
        node, parent, side = waiting.pop()
        at = len(features)
        if parent != NO_NODE:
            side[parent] = at
        left.append(NO_NODE)
        right.append(NO_NODE)
        is_leaf = "split_feature" not in node
        features.append(0 if is_leaf else int(node["split_feature"]))
        thresholds.append(0.0 if is_leaf else float(_not_above(float(node["threshold"]))))
        values.append(float(node["leaf_value" if is_leaf else "internal_value"]))
        if not is_leaf:
            if node["decision_type"] != "<=":
                raise ModelError(f"LightGBM made a split by {node['decision_type']!r:.20}, which is no comparison")
            waiting += [(node["right_child"], at, right), (node["left_child"], at, left)]
    of_nodes, below, above, root = (np.array(one, np.int32) for one in (features, left, right, [0]))
    return Forest(of_nodes, np.array(thresholds, np.float32), below, above, np.array(values, np.float32), root)


def _not_above(threshold: float) -> np.float32:
    rounded = np.float32(threshold)
    return np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > threshold else rounded
