"""Byte streams of text files: decompressed, decoded and with plain line ends, each in bounded memory."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from typing import IO

CHUNK_BYTES = 65_536
XZ_MEMORY_BYTES = 268_435_456
"""Decoder memory of an xz file; `xz -9` needs 65 MiB. A header may ask for gigabytes."""
UNDECODABLE = "\udcff"
"""Stands for bytes that the chosen encoding does not know; as it is no valid Unicode, its row is refused."""
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""Errors of a compressed stream that is cut or broken, and of a disk that cannot be read."""


def read_some(stream: IO[bytes], n_bytes: int = CHUNK_BYTES) -> bytes:
    """Return what one read gives, at most `n_bytes`; empty at the end. A pipe answers with what it has."""
    read1 = getattr(stream, "read1", None)
    return bytes(read1(n_bytes) if read1 is not None else stream.read(n_bytes))


class _Derived(io.RawIOBase):
    """Base of a raw stream that is made from another one and closes it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def _next(self, n_bytes: int) -> bytes:
        """Return at most `n_bytes`, none only at the end."""
        raise NotImplementedError

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._next(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


class Resumed(_Derived):
    """A stream whose start was read to look at it: the start again, then the rest, or the error that ended the look."""

    def __init__(self, start: bytes, rest: IO[bytes], failure: Exception | None = None) -> None:
        super().__init__(rest)
        self._start = start
        self._failure = failure

    def _next(self, n_bytes: int) -> bytes:
        if not self._start and self._failure is not None:
            raise self._failure
        if not self._start:
            return read_some(self._source, n_bytes)
        chunk, self._start = self._start[:n_bytes], self._start[n_bytes:]
        return chunk


class XzStream(_Derived):
    """The content of an xz file, which may hold several streams and padding. Raises LZMAError or EOFError where it is damaged."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__(source)
        self._decoder = self._fresh()
        self._rest = b""

    @staticmethod
    def _fresh() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES)

    def _next(self, n_bytes: int) -> bytes:
        while True:
            if self._decoder.eof and not self._begin_next_stream():
                return b""
            chunk = b""
            if self._decoder.needs_input:
                chunk, self._rest = self._rest or read_some(self._source), b""
                if not chunk:
                    raise EOFError("the xz stream is cut")
            data = self._decoder.decompress(chunk, n_bytes)
            if data:
                return data

    def _begin_next_stream(self) -> bool:
        rest = self._decoder.unused_data.lstrip(b"\x00")
        while not rest:
            chunk = read_some(self._source)
            if not chunk:
                return False
            rest = chunk.lstrip(b"\x00")
        self._rest = rest
        self._decoder = self._fresh()
        return True


class ZstdStream(_Derived):
    """The content of a zstd file, which may hold several frames. Raises OSError where it is damaged or cut."""

    def __init__(self, source: IO[bytes]) -> None:
        import pyarrow  # its decoder reads piece by piece; no other file needs it

        super().__init__(source)
        self._content = pyarrow.CompressedInputStream(pyarrow.PythonFile(source, mode="r"), "zstd")

    def _next(self, n_bytes: int) -> bytes:
        return bytes(self._content.read(n_bytes))


class Transcoded(_Derived):
    """The same text in UTF-8, with `\\n` for a lone `\\r` where `cr_ends_lines`."""

    def __init__(self, source: IO[bytes], encoding: str, *, cr_ends_lines: bool) -> None:
        super().__init__(source)
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="recsys_mark")
        self._cr_ends_lines = cr_ends_lines
        self._ready = b""

    def _next(self, n_bytes: int) -> bytes:
        while not self._ready:
            chunk = read_some(self._source)
            text = self._decoder.decode(chunk, not chunk)
            if self._cr_ends_lines:
                text = text.replace("\r", "\n")
            self._ready = text.encode("utf-8", "surrogatepass")
            if not chunk:
                break
        ready, self._ready = self._ready[:n_bytes], self._ready[n_bytes:]
        return ready


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return UNDECODABLE, error.end


codecs.register_error("recsys_mark", _mark)


def decompressed(start: bytes, stream: IO[bytes]) -> IO[bytes]:
    """Return the content of a stream that begins with `start`, unpacked when it is gzip, bzip2, xz or zstd, whatever its name."""
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]
    if start.startswith(b"BZh") and start[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return bz2.BZ2File(stream)
    if start.startswith(b"\xfd7zXZ\x00"):
        return io.BufferedReader(XzStream(stream))
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return io.BufferedReader(ZstdStream(stream))
    return stream
