"""Commands as the store hands them to a connection: their words, and one key that names the cluster node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Argument = str | bytes | int


class Command(NamedTuple):
    """A command and one of the keys that it names, which says the cluster node that serves it."""

    key: str
    args: tuple[Argument, ...]


def call(function: str, keys: Sequence[str], *args: Argument, read_only: bool = False) -> Command:
    """Return the FCALL of a function by its server-side name."""
    return Command(keys[0], ("FCALL_RO" if read_only else "FCALL", function, len(keys), *keys, *args))
