"""Functions over arrays that are compiled to machine code when they are first called: loops without an interpreter, and without its lock.

What they become is kept in the package's own `__pycache__`, beside the byte code, or else in the user's cache folder; where neither may be
written every process compiles it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")
Turn = Callable[[str, str], AbstractContextManager[None]]
"""Waits, given a folder and the name of a function whose machine code is kept there, until no other process compiles it, and holds others
back until it ends."""

_turns: list[Turn] = []
"""The one that is in use, if any."""

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


def compile_in_turns(turn: Turn) -> None:
    """Compile each function in one process at a time, from now on: the others read what that one keeps instead of compiling it too."""
    _turns[:] = [turn]


class _KeptInTurns:
    """The kept machine code of one function, in numba's interface of a cache: a lookup that finds nothing is followed by a compilation,
    whose result is saved."""

    def __init__(self, kept: Any, name: str) -> None:
        self._kept, self._name = kept, name
        self._held, self._is_held = ExitStack(), False

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return what is kept for a signature; None has the caller compile it, in its turn."""
        found = self._kept.load_overload(signature, target)
        if found is not None or self._is_held or not _turns:
            return found
        self._held.enter_context(_turns[0](self._kept.cache_path, self._name))
        self._is_held = True
        found = self._kept.load_overload(signature, target)  # another process may have compiled it while this one waited
        if found is not None:
            self._release()
        return found

    def save_overload(self, signature: Any, made: Any) -> None:
        """Keep what was compiled, and let others read it."""
        try:
            self._kept.save_overload(signature, made)
        finally:
            self._release()

    def _release(self) -> None:
        self._is_held = False
        self._held.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)


def _compiled(function: Callable[P, R], *, fastmath: bool | set[str]) -> Callable[P, R]:
    try:
        dispatcher = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=fastmath)(function)
        dispatcher._cache = _KeptInTurns(dispatcher._cache, f"{function.__module__}.{function.__qualname__}")
    except RuntimeError:  # there is no folder to keep it in
        dispatcher = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)
    made: Callable[P, R] = dispatcher
    return made
