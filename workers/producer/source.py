"""Text files opened: path, compression, encoding and line ends, and the start that is looked at."""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from workers.errors import SettingsError
from workers.producer.bytestreams import CHUNK_BYTES, DAMAGE, Resumed, Transcoded, decompressed, read_some
from workers.producer.lines import Lines, damage_reason
from workers.producer.rows import DamagedFile, Format
from workers.producer.sniff import check_binary, encoding_problem

START_BYTES = CHUNK_BYTES
"""The start of a file that is looked at before anything is sent."""
MAX_CHECKED_BYTES = 268_435_456
SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")


@dataclass
class Source:
    """One text file: its start, in UTF-8, and all its lines."""

    start: bytes
    lines: Lines
    streams: tuple[IO[bytes], ...]
    is_packed: bool
    position: Callable[[], int]
    """Bytes of the file that were read so far, compressed ones where it is compressed."""

    def check_whole(self) -> None:
        """Raise DamagedFile when a compressed stream is damaged, which explains a start that is not what it should be."""
        if self.is_packed:
            check_stream(self.streams[0])

    def close(self) -> None:
        """Close the file and what was made of it; a decompressor does not close what it reads from."""
        for stream in self.streams:
            stream.close()


def format_of(path: str) -> Format:
    """Return the format that a file name stands for; standard input is JSON lines. Raises SettingsError for an unknown suffix."""
    if path == "-":
        return "jsonl"
    name = Path(path).name.lower()
    for packed in COMPRESSED:
        name = name.removesuffix(packed)
    suffix = Path(name).suffix
    if suffix not in SUFFIXES:
        raise SettingsError(f"FILE: the suffix {suffix or '(none)'} names no format: pass --format jsonl, csv, tsv or parquet")
    return SUFFIXES[suffix]


def check_encoding(name: str | None) -> str | None:
    """Return the codec's name. Raises SettingsError for one that Python does not know as a text encoding."""
    if name is None:
        return None
    try:
        if not codecs.lookup(name)._is_text_encoding:
            raise LookupError
        codecs.getincrementaldecoder(name)("strict").decode(b"", True)
    except (LookupError, ValueError, UnicodeError):
        raise SettingsError("--encoding: no such encoding; give utf-8, utf-16, cp1252, latin-1 or another one that Python knows") from None
    return name


def open_text(path: str, form: Format, encoding: str | None) -> Source:
    """Open a text file or standard input, whatever it is compressed with. Raises SettingsError when it cannot be opened or read as text."""
    raw, is_file = _opened(path)
    start, packed = _looked_at(raw, is_file)
    stream = decompressed(start, packed)
    if stream is not packed:
        start, stream = _looked_at(stream, is_file)
    try:
        check_binary(start, form)
        text, stream = _decoded(start, stream, encoding)
    except SettingsError:
        with stream, packed:
            if stream is not packed:
                check_stream(stream)
        raise
    position = raw.tell if is_file else _nowhere
    return Source(text.removeprefix(codecs.BOM_UTF8), Lines(stream), (stream, packed), stream is not packed, position)


def _nowhere() -> int:
    """Return the position in a pipe, which has none."""
    return 0


def check_stream(stream: IO[bytes]) -> None:
    """Read on, `MAX_CHECKED_BYTES` at most. Raises DamagedFile."""
    n_bytes = 0
    try:
        while n_bytes < MAX_CHECKED_BYTES and (chunk := read_some(stream)):
            n_bytes += len(chunk)
    except DAMAGE as error:
        raise DamagedFile(damage_reason(error)) from None


def _looked_at(stream: IO[bytes], is_file: bool) -> tuple[bytes, IO[bytes]]:
    """Return the start of a stream, as far as it can be read, and the stream from its start."""
    start, failure = b"", None
    while len(start) < START_BYTES and not (b"\n" in start and not is_file):  # a pipe may go on slowly: its first line is enough
        try:
            chunk = read_some(stream, START_BYTES - len(start))
        except DAMAGE as error:
            failure = error  # the rows before it are good; it is met again when the lines are read
            break
        if not chunk:
            break
        start += chunk
    return start, buffered(Resumed(start, stream, failure))


def buffered(raw: io.RawIOBase) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(raw, CHUNK_BYTES))


def _decoded(start: bytes, stream: IO[bytes], encoding: str | None) -> tuple[bytes, IO[bytes]]:
    """Return the start and the stream in UTF-8 with `\\n` between lines. Raises SettingsError when it is in another encoding."""
    if encoding is None:
        problem = encoding_problem(start)
        if problem:
            raise SettingsError(f"FILE: {problem}")
        encoding = "utf-8"
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    text = start if is_utf8 else codecs.getincrementaldecoder(encoding)(errors="recsys_mark").decode(start).encode("utf-8", "surrogatepass")
    cr_ends_lines = b"\n" not in text and b"\r" in text
    if cr_ends_lines:
        text = text.replace(b"\r", b"\n")
    if not is_utf8 or cr_ends_lines:
        stream = buffered(Transcoded(stream, encoding, cr_ends_lines=cr_ends_lines))
    return text, stream


def _opened(path: str) -> tuple[IO[bytes], bool]:
    """Return a byte stream, and whether it is a regular file, all of which is there."""
    if path == "-":
        return _standard_input(), False
    is_file = stat.S_ISREG(check_path(path).st_mode)
    try:
        return open(path, "rb", buffering=CHUNK_BYTES), is_file
    except OSError as error:
        raise SettingsError(f"FILE: cannot be opened ({error.strerror or type(error).__name__})") from None


def _standard_input() -> IO[bytes]:
    try:
        return buffered(io.FileIO(sys.stdin.fileno(), "rb", closefd=False))
    except io.UnsupportedOperation:
        return sys.stdin.buffer
    except (AttributeError, OSError, ValueError):
        raise SettingsError("FILE: standard input is closed: name a file") from None


def check_path(path: str) -> os.stat_result:
    """Return what the path is. Raises SettingsError when nothing is there, or when it is no file that can be read."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise SettingsError(f"FILE: cannot be opened ({reason}); name one file or one folder") from None
    if stat.S_ISSOCK(found.st_mode) or stat.S_ISBLK(found.st_mode):
        raise SettingsError("FILE: is neither a file nor a folder nor a pipe")
    return found
