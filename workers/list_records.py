"""From lists in arrays to the records of the recommendations topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

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
    scores = np.round(lists.scores.astype(np.float64), 4)
    filled = np.isfinite(lists.scores).sum(axis=1).tolist()
    numbers, because = lists.items.tolist(), lists.because.tolist()
    scores_by_user = np.where(np.isfinite(scores), scores, 0.0).tolist()
    propensities = np.round(lists.propensities.astype(np.float64), 6).tolist()
    contributions = [(name, np.round(part.astype(np.float64), 4).tolist()) for name, part in lists.contributions.items()]
    records = []
    for user, head in enumerate(heads):
        parts = [(name, values[user]) for name, values in contributions]
        items = [
            {
                "rank": place + 1,
                "item_id": item_ids[numbers[user][place]],
                "score": scores_by_user[user][place],
                "sources": {name: values[place] for name, values in parts if values[place]},
                "because": [item_ids[number] for number in because[user][place] if number >= 0],
                "propensity": propensities[user][place],
            }
            for place in range(filled[user])
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
                    "items": items,
                }
            )
        )
    return records
