"""Attributes of users' profiles as arrays: what segments are found by, and what rules read.

Shapes: C slots, U users, M attributes of one user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from recsys.state.user_attributes import HeldAttributes, WantedAttributes

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

MAX_ATTRIBUTES = 32
"""Attributes of one user that are held: categorical ones first, then numbers, then preferred categories, each by name."""
NONE = 0
"""The key of no attribute."""

AttributeKind = Literal["categorical", "numeric", "preferred"]


class Attribute(NamedTuple):
    """One attribute of a profile. A categorical one has a `value`; a preferred category is the `value` of no name; the number of a numeric
    one stands beside it."""

    kind: AttributeKind
    name: str
    value: str

    @property
    def key(self) -> int:
        """Return 64 bits that stand for the attribute, never `NONE`."""
        return xxhash.xxh3_64_intdigest("\0".join(self).encode("utf-8", "surrogatepass")) or 1


@dataclass(frozen=True, slots=True)
class Profile:
    """Attributes of one user, as the users topic has them."""

    categorical: Mapping[str, str]
    numeric: Mapping[str, float]
    preferred: Sequence[str]

    def attributes(self) -> list[tuple[Attribute, float]]:
        """Return at most `MAX_ATTRIBUTES` attributes with their numbers, NaN for those that are none."""
        found = [(Attribute("categorical", name, self.categorical[name]), np.nan) for name in sorted(self.categorical)]
        found += [(Attribute("numeric", name, ""), float(self.numeric[name])) for name in sorted(self.numeric)]
        found += [(Attribute("preferred", "", category), np.nan) for category in sorted(set(self.preferred))]
        return found[:MAX_ATTRIBUTES]


class ProfileColumns(NamedTuple):
    """Attributes of U users: `keys` (U, M), `NONE` behind the last one, and the `values` (U, M) of numeric ones, NaN for all others."""

    keys: U64
    values: F32

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, profiles: Sequence[Profile | None]) -> ProfileColumns:
        """Return the attributes of these users; None: a user without a profile."""
        columns = cls(np.zeros((len(profiles), MAX_ATTRIBUTES), np.uint64), np.full((len(profiles), MAX_ATTRIBUTES), np.nan, np.float32))
        for row, profile in enumerate(profiles):
            if profile is not None:
                columns.put(row, profile.attributes())
        return columns

    def put(self, row: int, attributes: Sequence[tuple[Attribute, float]]) -> None:
        """Write a user's attributes over those held."""
        self.keys[row], self.values[row] = NONE, np.nan
        for place, (attribute, number) in enumerate(attributes[: self.keys.shape[1]]):
            self.keys[row, place], self.values[row, place] = attribute.key, number

    def at(self, rows: I64) -> ProfileColumns:
        """Return the attributes of some users (U,)."""
        return ProfileColumns(self.keys[rows], self.values[rows])


class ProfileTable:
    """The attributes of the users in the slots of a `UserTable`.

    Columns (C, M), as in `ProfileColumns`, if the table `has_columns`: 392 bytes a slot that has one, nothing for the others; `attributes`
    are those that rules read, None if they read none; `read_s` (C,), when a slot was read, −∞ for never; `digests` (C,), of what was read.
    """

    def __init__(self, capacity: int, *, has_columns: bool = True) -> None:
        self.has_columns = has_columns
        self.attributes: HeldAttributes | None = None
        self._hold(capacity)

    def _hold(self, capacity: int) -> None:
        self._keys: U64 = np.zeros((capacity, MAX_ATTRIBUTES), np.uint64)
        self._values: F32 = np.zeros((capacity, MAX_ATTRIBUTES), np.float32)
        self.read_s: F64 = np.full(capacity, -np.inf)
        self.digests: U64 = np.zeros(capacity, np.uint64)

    def __len__(self) -> int:
        return len(self.read_s)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        keys, values, read_s, digests = self._keys, self._values, self.read_s, self.digests
        self._hold(capacity)
        if self.has_columns:
            used = np.flatnonzero(digests)  # pages of a slot that nobody has used yet are not touched
            self._keys[used], self._values[used] = keys[used], values[used]
        self.read_s[: len(read_s)], self.digests[: len(digests)] = read_s, digests
        if self.attributes is not None:
            self.attributes.grow(capacity)

    def hold_columns(self) -> None:
        """Hold columns from now on. All profiles are to be read again."""
        if not self.has_columns:
            self.has_columns = True
            self.clear(np.arange(len(self)))

    def drop_columns(self) -> None:
        """Hold no columns any more. All profiles are to be read again."""
        self.has_columns = False
        self._hold(len(self))
        if self.attributes is not None:
            self.attributes = HeldAttributes(self.attributes.wanted, len(self))

    def hold_attributes(self, wanted: WantedAttributes) -> None:
        """Hold these attributes from now on, for rules. Others than before: all profiles are to be read again."""
        if wanted != (WantedAttributes() if self.attributes is None else self.attributes.wanted):
            self.attributes = None
            self.clear(np.arange(len(self)))
            self.attributes = HeldAttributes(wanted, len(self)) if wanted else None

    def clear(self, slots: I64) -> None:
        """Forget the attributes in these slots (U,): they get other users."""
        used = slots[self.digests[slots] != 0]
        if self.has_columns:
            self._keys[used] = NONE
        if self.attributes is not None:
            self.attributes.clear(used)
        self.digests[used] = 0
        self.read_s[slots] = -np.inf

    def stale(self, slots: I64, before_s: float) -> Bools:
        """Return which of the slots (U,) were not read since `before_s`."""
        old: Bools = self.read_s[slots] < before_s
        return old

    def note_read(self, slots: I64, now_s: float) -> None:
        """Note that these slots (U,) were read at `now_s`."""
        self.read_s[slots] = now_s

    def put(self, slot: int, profile: Profile | None, digest: int) -> None:
        """Hold a user's attributes; None: the user has no profile. `digest`, not 0, is of what they were read from."""
        if self.has_columns:
            self.columns.put(slot, [] if profile is None else profile.attributes())
        if self.attributes is not None:
            self.attributes.put(slot, profile)
        self.digests[slot] = digest

    def take(self, slot: int, profiles: ProfileColumns, row: int) -> None:
        """Hold the attributes of one of the users of `profiles`."""
        width = profiles.keys.shape[1]
        self._keys[slot, :width], self._keys[slot, width:] = profiles.keys[row], NONE
        self._values[slot, :width] = profiles.values[row]
        self.digests[slot] = 1

    @property
    def columns(self) -> ProfileColumns:
        """Return the attributes of all slots."""
        return ProfileColumns(self._keys, self._values)


def digest_of(stored: bytes | None) -> int:
    """Return 64 bits of a stored profile, never 0."""
    return xxhash.xxh3_64_intdigest(stored or b"") or 1
