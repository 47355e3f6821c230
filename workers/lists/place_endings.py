"""Closes a place of a list with why the item is there, and which rules moved it. Few places differ in it, so each text is made once.

Shapes: U lists, K places.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from recsys.engine import Lists
from recsys.lists.reason_kinds import KINDS, Reasons
from schemas.limits import MAX_RULES
from workers.lists.texts import Texts

I64 = NDArray[np.int64]


def endings(lists: Lists, rule_names: Sequence[str]) -> tuple[I64, Texts]:
    """Return which of some texts closes each place, (U, K), and the texts; `rule_names` are those of the bits of `lists.rules`."""
    marks, pieces = _of_reasons(lists)
    if lists.rules is None:
        return marks, Texts.of([piece + b"}" for piece in pieces])
    bits, moved_by = np.unique(lists.rules, return_inverse=True)
    pairs = len(pieces) * moved_by.reshape(marks.shape).astype(np.int64) + marks
    keys, inverse = np.unique(pairs, return_inverse=True)
    named = [_of_rules(some, rule_names) for some in bits.tolist()]
    closed = [pieces[key % len(pieces)] + named[key // len(pieces)] + b"}" for key in keys.tolist()]
    return inverse.reshape(marks.shape).astype(np.int64), Texts.of(closed)


def ending(lists: Lists, row: int, place: int, rule_names: Sequence[str]) -> dict[str, Any]:
    """Return the fields that close one place."""
    found: dict[str, Any] = {}
    if lists.reasons is not None and (kind := lists.reasons.kind(row, place)) is not None:
        category = lists.reasons.category(row, place)
        found = {"reason": kind} if category is None else {"reason": kind, "reason_category": category}
    named = [] if lists.rules is None else _named(int(lists.rules[row, place]), rule_names)
    return found | {"rules": named} if named else found


def _of_reasons(lists: Lists) -> tuple[I64, list[bytes]]:
    """Return which of some texts gives the reason of each place, (U, K), and the texts."""
    if lists.reasons is None:
        return np.zeros(lists.items.shape, np.int64), [b""]
    reasons: Reasons = lists.reasons
    plain = [b"", *(b',"reason":"%b"' % kind.encode() for kind in KINDS)]
    marks = reasons.kinds.astype(np.int64)
    if not len(reasons.names):
        return marks, plain
    named = [b',"reason_category":%b' % orjson.dumps(name) for name in reasons.names]
    marks += len(plain) * (reasons.categories.astype(np.int64) + 1)
    return marks, [kind + category for category, kind in product((b"", *named), plain)]


def _of_rules(bits: int, rule_names: Sequence[str]) -> bytes:
    named = _named(bits, rule_names)
    return b',"rules":%b' % orjson.dumps(named) if named else b""


def _named(bits: int, rule_names: Sequence[str]) -> list[str]:
    """Return the first names of the rules whose bits are set."""
    return [name for at, name in enumerate(rule_names) if bits >> at & 1][:MAX_RULES]
