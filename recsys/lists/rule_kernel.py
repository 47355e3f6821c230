"""Places that rules pin, compiled. Shapes: U users, P ranked candidates, R rules, L places of a rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

I64 = NDArray[np.int64]


@compiled
def pin(numbers: I64, claims: I64, bits: I64, places: I64, columns: I64, pinned_by: I64) -> None:
    """Write the order of each user's candidates into `columns` (U, P), those that are none last, and the bit of the rule that pinned what
    is at a place, or 0, into `pinned_by` (U, P).

    `numbers` (U, P) are best first, −1 for none. Rule r of R pins those whose `claims` (U, P) have its bit of `bits` (R,) to `places[r]`
    (R, L), ascending from 0, −1 for no more; a place that an earlier rule has taken stays so. A place behind the last candidate is the last
    one that is free.
    """
    n_places = numbers.shape[1]
    at_place, is_pinned = np.empty(n_places, np.int64), np.empty(n_places, np.bool_)
    for user in range(len(numbers)):
        at_place[:], is_pinned[:], pinned_by[user] = -1, False, 0
        n_valid = 0
        for column in range(n_places):
            n_valid += numbers[user, column] >= 0
        for rule in range(len(bits)):
            column = 0
            for wanted in places[rule]:
                if wanted < 0:
                    break
                place = min(wanted, n_valid - 1)
                while wanted >= n_valid and place > 0 and at_place[place] >= 0:
                    place -= 1
                if place < 0 or at_place[place] >= 0:
                    continue
                while column < n_places and (numbers[user, column] < 0 or is_pinned[column] or claims[user, column] & bits[rule] == 0):
                    column += 1
                if column == n_places:
                    break
                at_place[place] = column
                is_pinned[column] = True
                pinned_by[user, place] = bits[rule]
        _fill(numbers[user], at_place, is_pinned, n_valid, columns[user])


@compiled
def _fill(numbers: I64, at_place: I64, is_pinned: NDArray[np.bool_], n_valid: int, columns: I64) -> None:
    """Write the columns of one user: what is pinned at its place, all others in their order, those that are none last."""
    column, none = 0, 0
    for place in range(len(columns)):
        if place >= n_valid:
            while numbers[none] >= 0:
                none += 1
            columns[place] = none
            none += 1
        elif at_place[place] >= 0:
            columns[place] = at_place[place]
        else:
            while numbers[column] < 0 or is_pinned[column]:
                column += 1
            columns[place] = column
            column += 1
