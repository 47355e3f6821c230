"""Arrays over all items that compiled loops use for a moment and leave zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


class Scratch(Generic[Scalar]):
    """Lends arrays of zeros. Several threads may borrow at once."""

    def __init__(self, dtype: type[Scalar]) -> None:
        self._dtype = dtype
        self._free: list[NDArray[Scalar]] = []

    @contextmanager
    def borrowed(self, n_items: int) -> Iterator[NDArray[Any]]:
        """Lend an array (≥ `n_items`,) of zeros, which must be zero again at the end; after an error it is not lent again."""
        try:
            taken = self._free.pop()
        except IndexError:
            taken = None
        if taken is None or len(taken) < n_items:
            taken = np.zeros(2 * n_items, self._dtype)
        yield taken
        self._free.append(taken)
