"""Holds what rules name of users' profiles: exact texts and numbers, by slot. Where no rule names anything, nothing is held.

Shapes: C slots, U users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.state.held_texts import HeldTexts

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WantedAttributes:
    """Names the attributes of profiles that are to be held, as `texts` or as `numbers`. False if it names none."""

    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.texts or self.numbers)

    def of(self, profile: Attributed | None) -> tuple[str | float | None, ...]:
        """Return the named attributes of a profile, texts first; None for each that it does not have."""
        if profile is None:
            return (None,) * (len(self.texts) + len(self.numbers))
        return (*map(profile.categorical.get, self.texts), *map(profile.numeric.get, self.numbers))


class Attributed(Protocol):
    """The part of a profile that can be held (`recsys.state.profiles.Profile`)."""

    @property
    def categorical(self) -> Mapping[str, str]: ...
    @property
    def numeric(self) -> Mapping[str, float]: ...


class HeldAttributes:
    """Attributes of the users in slots: of each that `wanted` names 4 bytes a slot for a text, and each distinct text once, or 8 bytes for
    a number, NaN where there is none. Values are exact, and distinct texts never share a place."""

    def __init__(self, wanted: WantedAttributes, capacity: int) -> None:
        self.wanted = wanted
        self.texts = {name: HeldTexts(capacity) for name in wanted.texts}
        self.numbers: dict[str, F64] = {name: np.full(capacity, np.nan) for name in wanted.numbers}

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        for held in self.texts.values():
            held.grow(capacity)
        for name, values in self.numbers.items():
            self.numbers[name] = np.pad(values, (0, capacity - len(values)), constant_values=np.nan)

    def put(self, slot: int, profile: Attributed | None) -> None:
        """Replace what is held of a user; None: the user has no profile."""
        for name, held in self.texts.items():
            held.put(slot, None if profile is None else profile.categorical.get(name))
        for name, values in self.numbers.items():
            values[slot] = np.nan if profile is None else profile.numeric.get(name, np.nan)

    def clear(self, slots: I64) -> None:
        """Forget the users in these slots (U,)."""
        for held in self.texts.values():
            for slot in slots.tolist():
                held.put(slot, None)
        for values in self.numbers.values():
            values[slots] = np.nan
