"""Names in messages: the most similar one, and lists of them that stay short."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean …?)` with the most similar name, or nothing."""
    lowered = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), lowered, 1, 0.6)
    return f" (did you mean {lowered[found[0]]}?)" if found else ""


def listed(names: Collection[str]) -> str:
    """Return names for a message, at most twenty."""
    shown = [name or "(blank)" for name in names][:20]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(shown) + more
