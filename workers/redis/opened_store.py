"""A store on one namespace: its keys, its connection, and the layout that it was opened with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workers.errors import Fatal
from workers.redis.commands import Argument, Command, call
from workers.redis.connection import Link
from workers.redis.functions import load_library
from workers.redis.keys import Keys, PointerKeys
from workers.settings import RedisSettings
from workers.state.port import Layout, RowAddress

SCAN_COUNT = 1_000
"""Keys that the server looks at for one page of a SCAN."""


class OpenedStore:
    """Base of the parts of `RedisStore`: each part has the methods of `StateStore` for one kind of state."""

    def __init__(self, settings: RedisSettings, *, pinned: int | None = None) -> None:
        self._pinned = pinned
        self.keys = Keys(settings.namespace)
        self._namespace, self._pointers = settings.namespace, PointerKeys(settings.namespace)
        self._generation = 0
        self._link = Link(settings, load_library())
        self._layout: Layout | None = None

    def _call(self, name: str, keys: Sequence[str], *args: Argument, read_only: bool = False) -> Command:
        return call(self._link.library.function(name), keys, *args, read_only=read_only)

    @property
    def layout(self) -> Layout:
        if self._layout is None:
            raise Fatal("the state store was used before it was opened: call open(layout) first")
        return self._layout

    def _by_group(self, rows: Iterable[RowAddress]) -> dict[int, list[int]]:
        positions: dict[int, list[int]] = {}
        for i, (group, _) in enumerate(rows):
            positions.setdefault(group, []).append(i)
        return positions
