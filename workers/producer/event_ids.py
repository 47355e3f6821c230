"""Event ids from what rows say, so that a file published twice counts once, and a look at ids that repeat.

An id is the hash of the row's fields, and the number of the row among equal rows of the file: four plays of one item on one day are four
events. The time of publishing is no part of it.
"""

from __future__ import annotations

import hashlib
import mmap
from array import array
from collections.abc import Mapping
from typing import Any

MAX_EXACT = 500_000
"""Different rows that are remembered one by one, about 60 MB."""
FILTER_BITS = 2**29
"""64 MiB for the rows beyond it. At ten million rows one in 10^6 is taken for a repetition: it gets number 2, in every publication."""
N_PROBES = 6
MAX_REPEATED = 1_000_000
"""Different rows that repeat and are numbered one by one; further ones are numbered by their line."""
MAX_IDS_LOOKED_AT = 5_000_000
"""80 MB; repetitions among the rows after it are not counted."""


def content_of(fields: Mapping[str, Any]) -> bytes:
    """Return the hash of what an event says, without its id."""
    get = fields.get
    text = (
        f"{get('user_id')!r}\x1f{get('item_id')!r}\x1f{get('type')!r}\x1f{get('value')!r}\x1f{get('event_ts_ms')!r}"
        f"\x1f{get('list_id')!r}\x1f{get('position')!r}"
    )
    session = fields.get("session")
    if session is not None:
        text += f"\x1fsession={session!r}"
    context = fields.get("context")
    if context:
        text += f"\x1fcontext={sorted(context.items(), key=repr) if isinstance(context, dict) else context!r}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class RowIds:
    """Give an event id to every row of one publication. Memory is bounded by `MAX_EXACT`, `FILTER_BITS` and `MAX_REPEATED`."""

    def __init__(self) -> None:
        self._exact: set[bytes] = set()
        self._filter: _BloomFilter | None = None
        self._repeated: dict[bytes, int] = {}
        self.n_equal = 0

    def id_of(self, fields: Mapping[str, Any], line: int, prefix: bytes = b"") -> str:
        """Return the id of a row; `prefix` is the id that the file gives it, where that alone does not tell rows apart."""
        content = content_of(fields)
        if prefix:
            content = hashlib.sha256(content + prefix).digest()
        number = self._occurrence(content, line)
        if number == 1:
            return f"row-{content.hex()[:32]}"
        self.n_equal += 1
        return f"row-{hashlib.sha256(content + str(number).encode()).hexdigest()[:32]}"

    def _occurrence(self, content: bytes, line: int) -> int | str:
        if not self._seen(content):
            return 1
        if content not in self._repeated and len(self._repeated) >= MAX_REPEATED:
            return f"line {line}"
        number = self._repeated.get(content, 1) + 1
        self._repeated[content] = number
        return number

    def _seen(self, content: bytes) -> bool:
        """Return whether this content came before, and remember it."""
        if self._filter is not None:
            return self._filter.add(content)
        if content in self._exact:
            return True
        self._exact.add(content)
        if len(self._exact) > MAX_EXACT:
            self._filter = _BloomFilter()
            for known in self._exact:
                self._filter.add(known)
            self._exact.clear()
        return False


class _BloomFilter:
    """A set of hashes in fixed memory that may take a new one for a known one, and never the other way round."""

    def __init__(self) -> None:
        self._bits = mmap.mmap(-1, FILTER_BITS // 8)  # zeros, in memory only where they are touched

    def add(self, content: bytes) -> bool:
        """Add a hash; return whether it was there."""
        seen = True
        for at in range(N_PROBES):
            bit = int.from_bytes(content[at * 5 : at * 5 + 5], "big") % FILTER_BITS
            byte, mask = bit >> 3, 1 << (bit & 7)
            if not self._bits[byte] & mask:
                seen = False
                self._bits[byte] |= mask
        return seen


class GivenIds:
    """Look at the ids that a file gives its events: which repeat, with the same content or with another one."""

    def __init__(self) -> None:
        self._ids = array("Q")
        self._contents = array("Q")

    def add(self, fields: Mapping[str, Any]) -> None:
        """Note one event with its id."""
        if len(self._ids) < MAX_IDS_LOOKED_AT:
            key = f"{fields.get('user_id')}\x1f{fields.get('event_id')}".encode("utf-8", "surrogatepass")
            self._ids.append(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big"))
            self._contents.append(int.from_bytes(content_of(fields)[:8], "big"))

    def repeats(self) -> tuple[int, int]:
        """Return how many rows repeat an earlier id of the same user: with the same content, and with another one."""
        if not self._ids:
            return 0, 0
        import numpy as np

        pairs = np.stack([np.frombuffer(self._ids, np.uint64), np.frombuffer(self._contents, np.uint64)], axis=1)
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        pairs = pairs[order]
        same_id = pairs[1:, 0] == pairs[:-1, 0]
        same_content = same_id & (pairs[1:, 1] == pairs[:-1, 1])
        n_same = int(same_content.sum())
        return n_same, int(same_id.sum()) - n_same
