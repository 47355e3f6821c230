"""Functions over arrays that are compiled to machine code when they are first called: loops without an interpreter, and without its lock.

What they become is kept in the package's own `__pycache__`, beside the byte code, or else in the user's cache folder; where neither may be
written every process compiles it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")

_REORDERED = {"reassoc", "contract", "nsz", "arcp", "nnan"}
"""Sums may be taken in any order, products fused with them; there are infinities, but no NaN."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function as machine code, with numbers as IEEE has them."""
    return _compiled(function, fastmath=False)


def compiled_sums(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function as machine code where the last bits of a sum do not matter: vectorised. Its arguments must not be NaN."""
    return _compiled(function, fastmath=_REORDERED)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function as part of the compiled functions of its module that call it: a call would count references of every array."""
    made: Callable[P, R] = numba.njit(nogil=True, inline="always", error_model="numpy")(function)
    return made


def _compiled(function: Callable[P, R], *, fastmath: bool | set[str]) -> Callable[P, R]:
    try:
        made: Callable[P, R] = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=fastmath)(function)
    except RuntimeError:  # there is no folder to keep it in
        made = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)
    return made
