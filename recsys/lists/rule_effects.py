"""Effects of rules on the lists of some users, in arrays. Shapes: N items, R rules that pin, L places, T rankings of M items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RuleEffects:
    """Effects of rules on the lists of some users.

    `allowed` (N,): items that may be listed, None for all. `added` (N,): what is added to scores, None where no rule does. `marks` (N,):
    bits of the rules that boost, bury or pin an item, None where none does: `movers` are those that boost or bury; of those that pin, rule
    r has the bit `pins[r]` (R,) and takes `places[r]` (R, L), ascending from 0, −1 for none. `matches` (N,) by rule; None for a rule of
    another kind of list. `tops` (T, M) are candidates for rules that raise items, best first, −1 for none; a user gets the first `quotas`
    (T,) of each.
    """

    allowed: Bools | None
    added: F32 | None
    marks: I64 | None
    movers: int
    pins: I64
    places: I64
    matches: Sequence[Bools | None]
    tops: I64
    quotas: I64
