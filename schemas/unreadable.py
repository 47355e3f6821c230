"""Stands for what no reader can use: a record that is too large to be held, or all records of a batch that cannot be unpacked."""

from __future__ import annotations

from schemas.errors import Poison


class Unreadable(bytes):
    """An empty value with the reason why there is none. Decoders raise that reason as `Poison`.

    `first_offset` is set for a batch: then the record stands for all offsets from there to its own. Of a record that was dropped for its
    size, the hash and the size are kept.
    """

    poison: Poison
    first_offset: int | None
    payload_sha256: str | None
    payload_bytes: int

    @classmethod
    def batch(cls, poison: Poison, first_offset: int, payload_bytes: int = 0) -> Unreadable:
        """Stand for the records of a batch from `first_offset` on."""
        return cls._of(poison, first_offset, None, payload_bytes)

    @classmethod
    def record(cls, poison: Poison, payload_sha256: str | None, payload_bytes: int) -> Unreadable:
        """Stand for one record whose value (or key) was dropped."""
        return cls._of(poison, None, payload_sha256, payload_bytes)

    @classmethod
    def _of(cls, poison: Poison, first_offset: int | None, payload_sha256: str | None, payload_bytes: int) -> Unreadable:
        made = cls()
        made.poison, made.first_offset = poison, first_offset
        made.payload_sha256, made.payload_bytes = payload_sha256, payload_bytes
        return made
