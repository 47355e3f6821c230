"""From settings to the rows of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recsys.lists.row_options import RowSpec
from workers.list_settings import ListSettings
from workers.row_settings import RowSettings


def shown_size(lists: ListSettings) -> int:
    """Return how many places a list and its rows have."""
    return lists.size + sum(row.size for row in lists.rows)


def row_specs(rows: Sequence[RowSettings]) -> tuple[RowSpec, ...]:
    """Return what the engine makes of these settings."""
    return tuple(
        RowSpec(row.kind, row.size, row.least, row.category, row.shown_name, row.shown_name if row.title is None else row.title)
        for row in rows
    )


def shown_ids(record: Mapping[str, Any]) -> list[str]:
    """Return the ids of the items on a list and on its rows, each once. Raises KeyError or TypeError for what is no list."""
    listed = [item["item_id"] for item in record["items"]]
    return list(dict.fromkeys([*listed, *(item["item_id"] for row in record.get("rows", ()) for item in row["items"])]))
