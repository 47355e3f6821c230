"""Plain counts that the hot path adds to and that metrics read when somebody asks for them: an addition to an integer costs no lock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Counts what went over the connections to a store: round trips, commands, and bytes each way."""

    calls: int = 0
    commands: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(slots=True)
class CacheLookups:
    """Counts how often a cache held what was looked for."""

    hits: int = 0
    misses: int = 0

    def note(self, n_wanted: int, n_missing: int) -> None:
        """Count a look for several things at once."""
        self.hits += n_wanted - n_missing
        self.misses += n_missing
