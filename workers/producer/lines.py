"""Lines of a byte stream, none of them held beyond `MAX_LINE_BYTES`, that can be handed back to be read again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import IO

from workers.producer.bytestreams import DAMAGE
from workers.producer.rows import MAX_LINE_BYTES, DamagedFile


@dataclass(frozen=True, slots=True)
class Line:
    """One line with its number from 1 and its end; `content` is None where it was too long."""

    number: int
    content: bytes | None


class Lines:
    """Read lines in order. `give_back` makes lines come again, oldest first."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._again: deque[Line] = deque()
        self._n_read = 0
        self._damage = ""

    def next(self) -> Line | None:
        """Return the next line, None at the end. Raises DamagedFile where the stream cannot be read on, and at each call from then on."""
        if self._again:
            return self._again.popleft()
        if not self._damage:
            try:
                return self._read()
            except DAMAGE as error:
                self._damage = damage_reason(error)
        raise DamagedFile(self._damage)

    def _read(self) -> Line | None:
        raw = self._stream.readline(MAX_LINE_BYTES)
        if not raw:
            return None
        if self._n_read == 0:
            raw = raw.removeprefix(b"\xef\xbb\xbf") or b"\n"
        self._n_read += 1
        if len(raw) < MAX_LINE_BYTES or raw.endswith(b"\n"):
            return Line(self._n_read, raw)
        while raw and not raw.endswith(b"\n"):
            raw = self._stream.readline(MAX_LINE_BYTES)
        return Line(self._n_read, None)

    def give_back(self, lines: list[Line]) -> None:
        self._again.extendleft(reversed(lines))


def damage_reason(error: BaseException) -> str:
    """Return what an error of a compressed stream or of the disk means, in words."""
    if isinstance(error, EOFError):
        return "the compressed data ends too early: the file is cut"
    if isinstance(error, OSError) and error.errno is not None:
        return f"it cannot be read on ({error.strerror})"
    if "CRC" in str(error) or "length" in str(error):
        return "the checksum is wrong: the file is damaged"
    return "the compressed data is damaged"
