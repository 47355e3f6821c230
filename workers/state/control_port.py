"""Records of the control topic, as workers see them in the state store."""

from __future__ import annotations

from typing import Protocol


class ControlRecords(Protocol):
    """The part of a state store that holds the newest record of each key of the control topic that workers accepted."""

    async def set_control(self, key: str, record: bytes, order: int) -> bool:
        """Store a record (JSON; empty: it was removed) unless one of a higher order is there; True if it is what is stored now. Raises
        Transient."""
        ...

    async def control(self) -> dict[str, bytes]:
        """Return the stored record of each key. Raises Transient."""
        ...
