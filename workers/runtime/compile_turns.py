"""Processes of one machine that compile the same functions take turns, so that each function is compiled once.

Four workers that start on a new machine would otherwise compile everything four times, on processors that they share.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

FILE_NAME = "compiling.lock"
"""One file in each folder of compiled functions; each function has a byte of it."""
POLL_S = 0.05
WAIT_S = 60.0
"""A process that compiles for longer than this may have been suspended: then others compile for themselves."""

_files: dict[str, int] = {}
"""Descriptors by folder, open for as long as the process lives: closing one would end all of the process's locks on its file."""


@contextlib.contextmanager
def turn(folder: str, name: str, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the turn to compile the function `name` of this folder. Goes on without it after `wait_s`, and where nothing can be locked."""
    place = crc32(name.encode())
    file = _locked(folder, place, wait_s)
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                fcntl.lockf(file, fcntl.LOCK_UN, 1, place)


def _locked(folder: str, place: int, wait_s: float) -> int | None:
    """Return the descriptor of the file in which the byte at `place` is locked now; None where it is not."""
    ends_s = time.monotonic() + wait_s
    try:
        if folder not in _files:
            _files[folder] = os.open(Path(folder) / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        while True:
            try:
                fcntl.lockf(_files[folder], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                return _files[folder]
            except BlockingIOError:
                if time.monotonic() >= ends_s:
                    return None
                time.sleep(POLL_S)
    except OSError:  # a file system without locks, or without write access
        return None
