"""From lists in arrays to the records of the recommendations topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from recsys.engine import Lists


@dataclass(frozen=True, slots=True)
class ListHead:
    """Whose list it is and what it is up to date with. `event_id` is None when no event made it."""

    user_id: str
    partition: int
    source_offset: int
    event_id: str | None


def encode_lists(
    heads: Sequence[ListHead],
    lists: Lists,
    item_ids: Sequence[str],
    *,
    generated_ts_ms: int,
    model_versions: Mapping[str, str],
    variant: str,
) -> list[bytes]:
    """Each list as the JSON of `schemas.Recommendations`; `item_ids` by item number. Places with nothing left to list are dropped.

    Plain dictionaries and orjson: building the pydantic models costs six times as much. A test holds both forms equal.
    """
    versions = dict(model_versions)
    joined = ",".join(f"{kind}={version}" for kind, version in sorted(versions.items())) or "none"
    names = np.array([*item_ids, None], object)  # the last one is found under −1: no item
    n_items = lists.items.shape[1]
    ranks = range(1, n_items + 1)
    filled = np.isfinite(lists.scores).sum(axis=1).tolist()
    columns = zip(
        heads,
        filled,
        names[lists.items].tolist(),
        _decimals(np.where(np.isfinite(lists.scores), lists.scores, 0), 4),
        _decimals(np.stack(list(lists.contributions.values()), axis=2), 4) if lists.contributions else [[[]] * n_items] * len(heads),
        names[lists.because].tolist(),
        _decimals(lists.propensities, 6),
        strict=True,
    )
    sources = tuple(lists.contributions)
    records = []
    for head, n, ids, scores, parts, because, propensities in columns:
        items = [
            {
                "rank": rank,
                "item_id": item_id,
                "score": score,
                "sources": {name: value for name, value in zip(sources, values, strict=True) if value},
                "because": [reason for reason in reasons if reason is not None],
                "propensity": propensity,
            }
            for rank, item_id, score, values, reasons, propensity in zip(ranks, ids, scores, parts, because, propensities, strict=True)
        ]
        records.append(
            orjson.dumps(
                {
                    "schema_version": 1,
                    "list_id": f"{head.partition}-{head.source_offset}-{generated_ts_ms:x}",
                    "user_id": head.user_id,
                    "generated_ts_ms": generated_ts_ms,
                    "trigger": {"event_id": head.event_id, "partition": head.partition, "source_offset": head.source_offset},
                    "model_versions": versions,
                    "model_version": joined,
                    "variant": variant,
                    "items": items[:n],
                }
            )
        )
    return records


def _decimals(values: NDArray[np.float32], decimals: int) -> Any:
    """Rounded, as nested lists of Python floats that print short."""
    return np.round(values.astype(np.float64), decimals).tolist()
