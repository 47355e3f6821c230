"""Up to which byte each row of the item state is in a worker's memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.state.item_row import HEADER_BYTES
from workers.state.port import RowAddress

I64 = NDArray[np.int64]

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


class HeldRows:
    """What is held of each row, by address. Rows of co-occurrence are kept in arrays, because thousands grow with a batch."""

    def __init__(self) -> None:
        self._epochs: dict[int, _Epoch] = {}
        self._others: dict[RowAddress, Held] = {}

    def __contains__(self, address: RowAddress) -> bool:
        return self.get(address) is not None

    def get(self, address: RowAddress) -> Held | None:
        """What is held of a row, None where it is not held."""
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

    def keep_counts(self, addresses: Iterable[RowAddress]) -> set[RowAddress]:
        """Of the rows of counts hold none but these; which were held besides."""
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
        """Rows of an epoch, each once, got appends of `sizes` bytes and are `lengths` long now; those that `may_hold` are held from now on
        if they were not. All arrays, here and in the answer, (R,).

        Which rows are held; which of them, if they are `is_sure`, were held up to where the append begins, and so are held up to its end
        now; and their compacted lengths, the least there is for those that are not held.
        """
        rows = self._epochs.setdefault(epoch, _Epoch())
        rows.grow(int(numbers.max()) + 1)
        new = numbers[may_hold & (rows.generation[numbers] == _NOT_HELD)]
        rows.generation[new], rows.length[new], rows.base[new] = MADE_HERE
        held = rows.generation[numbers] != _NOT_HELD
        follows = held & is_sure & (rows.length[numbers] + sizes == lengths)
        rows.length[numbers[follows]] = lengths[follows]
        return held, follows, np.where(held, rows.base[numbers], HEADER_BYTES)
