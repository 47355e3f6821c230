"""Ctrl-C and SIGTERM during the demo: they end it even where a library loses the KeyboardInterrupt."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Remembers that a signal came. Python drops what is raised in a finaliser, a client may keep it to itself; `check` raises it again."""

    def __init__(self) -> None:
        self.came = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came before."""
        if self.came:
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at either signal."""
        with _handled_by(self._interrupt):
            yield

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


def deaf() -> AbstractContextManager[None]:
    """Let both signals wait until everything is stopped."""
    return _handled_by(signal.SIG_IGN)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """Give both signals this handler, and their own ones back afterwards."""
    previous = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, own in previous.items():
            signal.signal(number, own)
