"""Tracks up to which byte each row of the item state is in a worker's memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.state.item_row import HEADER_BYTES
from workers.state.port import RowAddress

I64 = NDArray[np.int64]

MANY_EPOCHS = 64
"""Epochs in which no row is held are forgotten once there are more."""
UNREAD = -1
"""Generation of a row that this worker made and never read."""
_NOT_HELD = -2


class Held(NamedTuple):
    """A row's generation, `length` in bytes, and `base`, its length when it was compacted."""

    generation: int
    length: int
    base: int


MADE_HERE = Held(UNREAD, HEADER_BYTES, HEADER_BYTES)


class _Epoch:
    """The rows of one epoch, by item number."""

    def __init__(self) -> None:
        self.generation: I64 = np.zeros(0, np.int64)
        self.length: I64 = np.zeros(0, np.int64)
        self.base: I64 = np.zeros(0, np.int64)

    def grow(self, n_items: int) -> None:
        more = n_items - len(self.generation)
        if more > 0:
            more = max(more, len(self.generation) // 4)
            self.generation = np.pad(self.generation, (0, more), constant_values=_NOT_HELD)
            self.length, self.base = np.pad(self.length, (0, more)), np.pad(self.base, (0, more))


class RowPositions:
    """Positions by row address. Those of co-occurrence rows are kept in arrays, because thousands of rows grow with a batch."""

    def __init__(self) -> None:
        self._epochs: dict[int, _Epoch] = {}
        self._others: dict[RowAddress, Held] = {}

    def __contains__(self, address: RowAddress) -> bool:
        return self.get(address) is not None

    def get(self, address: RowAddress) -> Held | None:
        """Return what is held of a row; None when it is not held."""
        _, (kind, where, number) = address
        if kind != "c":
            return self._others.get(address)
        rows = self._epochs.get(int(where))
        if rows is None or number >= len(rows.generation) or rows.generation[number] == _NOT_HELD:
            return None
        return Held(int(rows.generation[number]), int(rows.length[number]), int(rows.base[number]))

    def put(self, address: RowAddress, held: Held) -> None:
        """Hold a row up to here."""
        _, (kind, where, number) = address
        if kind != "c":
            self._others[address] = held
            return
        rows = self._epochs.setdefault(int(where), _Epoch())
        rows.grow(number + 1)
        rows.generation[number], rows.length[number], rows.base[number] = held

    def drop(self, address: RowAddress) -> None:
        """Hold a row no longer."""
        if address[1][0] != "c":
            self._others.pop(address, None)
        elif address in self:
            self._epochs[int(address[1][1])].generation[address[1][2]] = _NOT_HELD

    def drop_items(self, numbers: I64) -> None:
        """Hold no row of co-occurrence of these items."""
        for epoch, rows in list(self._epochs.items()):
            rows.generation[numbers[numbers < len(rows.generation)]] = _NOT_HELD
            if len(self._epochs) > MANY_EPOCHS and (rows.generation == _NOT_HELD).all():
                del self._epochs[epoch]

    def n_epochs(self, numbers: I64) -> I64:
        """Return in how many epochs a row of each of these items is held, (r,)."""
        found = np.zeros(len(numbers), np.int64)
        for rows in self._epochs.values():
            within = numbers < len(rows.generation)
            found[within] += rows.generation[numbers[within]] != _NOT_HELD
        return found

    def has_more_epochs_than(self, n_epochs: int) -> bool:
        """Return False if no item can have a row in more epochs."""
        return len(self._epochs) > n_epochs

    def keep_counts(self, addresses: Iterable[RowAddress]) -> set[RowAddress]:
        """Drop all rows of popularity counts but these, and return those that were dropped."""
        gone = self._others.keys() - set(addresses)
        for address in gone:
            del self._others[address]
        return gone

    def clear(self) -> None:
        """Hold nothing."""
        self._epochs.clear()
        self._others.clear()

    def grown(
        self, epoch: int, numbers: I64, sizes: I64, lengths: I64, may_hold: NDArray[np.bool_], is_sure: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], I64]:
        """Note appends of `sizes` bytes to rows of an epoch, each once, that are `lengths` long now; hold the rows that `may_hold`.

        Return which rows are held; which of those that are `is_sure` were held up to where the append begins, so that they are held up to
        its end now; and the rows' compacted lengths, the least possible for those that are not held. All arrays are (R,).
        """
        if epoch not in self._epochs and not may_hold.any():
            none = np.zeros(len(numbers), np.bool_)
            return none, none, np.full(len(numbers), HEADER_BYTES)
        rows = self._epochs.setdefault(epoch, _Epoch())
        rows.grow(int(numbers.max()) + 1)
        new = numbers[may_hold & (rows.generation[numbers] == _NOT_HELD)]
        rows.generation[new], rows.length[new], rows.base[new] = MADE_HERE
        held = rows.generation[numbers] != _NOT_HELD
        follows = held & is_sure & (rows.length[numbers] + sizes == lengths)
        rows.length[numbers[follows]] = lengths[follows]
        return held, follows, np.where(held, rows.base[numbers], HEADER_BYTES)
