"""Name what of items' content takes no part in lists, for the log and for `recsys doctor`."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.catalogue.content_values import MAX_COLUMNS, LeftOut
from workers.runtime.text import visible

_SHOWN = 5


def identifiers_line(left_out: LeftOut) -> str:
    """Return what is said of attributes that are identifiers, nothing if there are none."""
    if not left_out.identifiers:
        return ""
    return f"nearly every item has its own value of {_some(left_out.identifiers)}: such an attribute takes no part in lists"


def columns_line(left_out: LeftOut) -> str:
    """Return what is said of values without a column, nothing if there are none."""
    if not left_out.without_column:
        return ""
    counts = [f"{n} of {visible(name)}" for name, n in left_out.without_column.items()]
    more = f" and {len(counts) - _SHOWN} more attributes" if len(counts) > _SHOWN else ""
    return f"the {MAX_COLUMNS} most frequent values take part in lists, others do not: {', '.join(counts[:_SHOWN])}{more}"


def left_out_lines(left_out: LeftOut) -> list[str]:
    """Return a line for each thing to say."""
    return [line for line in (identifiers_line(left_out), columns_line(left_out)) if line]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(visible(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
