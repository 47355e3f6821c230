"""Read the logs of the processes of `recsys up` and of `docker compose`: parse lines, take the newest of all files, follow them."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import stat
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workers.errors import SettingsError

TAIL_BYTES = 4_194_304
"""Of each file at most so much is read for its newest lines."""
POLL_S = 0.25
LEVELS = {
    "trace": 5, "debug": 10, "verbose": 10, "info": 20, "notice": 20, "warn": 30, "warning": 30, "error": 40, "critical": 50, "fatal": 50,
}  # fmt: skip
_PLAIN = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?) +([A-Za-z]+) +(\S+?): (.*)", re.S)
_VALKEY = re.compile(r"\d+:[A-Z] (\d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3}) ([.\-*#]) (.*)", re.S)
_VALKEY_LEVELS = {".": "debug", "-": "info", "*": "info", "#": "warning"}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_COMPOSE = re.compile(r"([\w.-]+?)(?:-\d+)? +\| ?(.*)", re.S)
_JSON_NAMES = {
    "time": ("time", "timestamp", "ts", "asctime", "@timestamp"),
    "level": ("level", "levelname", "severity"),
    "logger": ("logger", "name", "target"),
    "message": ("message", "msg", "event"),
}


@dataclass(slots=True)
class Entry:
    """One entry of a log; lines that begin none, such as those of a traceback, belong to the entry before. `at_s` is 0 where unknown."""

    worker: str
    at_s: float
    level: str
    logger: str
    message: str
    more: list[str] = field(default_factory=list)

    def fields(self) -> dict[str, object]:
        """Return the entry for JSON."""
        time_text = dt.datetime.fromtimestamp(self.at_s, dt.UTC).isoformat(timespec="milliseconds") if self.at_s else None
        text = "\n".join([self.message, *self.more])
        return {"worker": self.worker, "time": time_text, "level": self.level, "logger": self.logger, "message": text}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Chooses entries by worker (`stream` is every stream worker) and by the least level."""

    workers: tuple[str, ...] = ()
    level: str = "debug"

    def takes(self, entry: Entry) -> bool:
        """Return whether an entry is wanted. One without a level is a line of a server, or of a crash: it counts as info."""
        return self.takes_worker(entry.worker) and LEVELS.get(entry.level, 20) >= LEVELS[self.level]

    def takes_worker(self, name: str) -> bool:
        """Return whether a worker's entries may be wanted."""
        return not self.workers or any(name == worker or re.fullmatch(rf"{re.escape(worker)}-\d+", name) for worker in self.workers)


def parse(worker: str, line: str) -> Entry | None:
    """Return the entry that a line begins, or None for a line that goes on with the entry before it."""
    found = _parse(worker, line)
    return _parse(worker, _ANSI.sub("", line)) if found is None and "\x1b" in line else found


def _parse(worker: str, line: str) -> Entry | None:
    if line.startswith("{"):
        return _parse_json(worker, line)
    if found := _PLAIN.fullmatch(line):
        if found[2].lower() not in LEVELS:
            return None
        return Entry(worker, _seconds(found[1]), _level(found[2]), found[3], found[4])
    if found := _VALKEY.fullmatch(line):
        at_s = dt.datetime.strptime(found[1], "%d %b %Y %H:%M:%S.%f").timestamp()
        return Entry(worker, at_s, _VALKEY_LEVELS[found[2]], "valkey", found[3])
    return None


def _parse_json(worker: str, line: str) -> Entry | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    known = {name: next((found[other] for other in names if other in found), "") for name, names in _JSON_NAMES.items()}
    if not known["message"]:
        return None
    at = known["time"]
    at_s = float(at) / (1000 if at > 1e11 else 1) if isinstance(at, int | float) else _seconds(str(at))
    more = str(found.get("exception") or found.get("exc_info") or "").splitlines()
    return Entry(worker, at_s, _level(str(known["level"])), str(known["logger"]), str(known["message"]), more)


def _level(name: str) -> str:
    known = name.lower()
    return {"warn": "warning", "fatal": "critical"}.get(known, known)


def _seconds(text: str) -> float:
    try:
        return dt.datetime.fromisoformat(text.replace(",", ".")).timestamp()
    except ValueError:
        return 0.0


def log_files(folder: Path) -> list[Path]:
    """Return the logs of a folder of `recsys up`. Raises SettingsError where there are none."""
    found = sorted(path for path in folder.glob("*.log") if path.is_file()) if folder.is_dir() else []
    if not found:
        raise SettingsError(f"--folder: {folder} has no logs: name the folder that `recsys up` prints")
    return found


def entries(worker: str, lines: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of lines. What goes on with an entry that was cut off is an entry without level and time."""
    current: Entry | None = None
    for line in lines:
        found = parse(worker, line)
        if found is None and current is not None:
            current.more.append(line)
            continue
        if current is not None:
            yield current
        current = found or Entry(worker, 0.0, "", "", line)
    if current is not None:
        yield current


def newest(files: Iterable[Path], wanted: Wanted, n: int) -> list[Entry]:
    """Return the last `n` wanted entries of all files, oldest first. Memory: the end of one file, and `n` entries of each."""
    found: list[Entry] = []
    for file in files:
        if not wanted.takes_worker(file.stem):
            continue
        kept = deque((entry for entry in entries(file.stem, _last_lines(file)) if wanted.takes(entry)), maxlen=n)
        at_s = 0.0
        for entry in kept:  # a line without a time stays behind the one before it
            at_s = entry.at_s = entry.at_s or at_s
        found += kept
    found.sort(key=lambda entry: entry.at_s)
    return found[-n:]


def _last_lines(file: Path) -> list[str]:
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - TAIL_BYTES))
        lines = opened.read(TAIL_BYTES).decode("utf-8", "replace").removesuffix("\n").split("\n")
    return lines[1:] if size > TAIL_BYTES else lines if size else []


def follow(folder: Path, wanted: Wanted, stop: Callable[[], bool] = lambda: False) -> Iterator[Entry]:
    """Yield wanted entries as they are written, also those of workers that start later; a file that is emptied is read from its start."""
    positions = {file: file.stat().st_size for file in folder.glob("*.log")}
    rests: dict[Path, bytes] = {}
    while not stop():
        for file in sorted(folder.glob("*.log")):
            if not wanted.takes_worker(file.stem):
                continue
            lines = _new_lines(file, positions, rests)
            yield from (entry for entry in entries(file.stem, lines) if wanted.takes(entry))
        if stop():
            return
        time.sleep(POLL_S)


def _new_lines(file: Path, positions: dict[Path, int], rests: dict[Path, bytes]) -> list[str]:
    start = positions.get(file, 0)
    with file.open("rb") as opened:
        if opened.seek(0, os.SEEK_END) < start:
            start, rests[file] = 0, b""
        opened.seek(start)
        content = opened.read(TAIL_BYTES)
        positions[file] = start + len(content)
    *lines, rests[file] = (rests.get(file, b"") + content).split(b"\n")
    return [line.decode("utf-8", "replace") for line in lines]


def compose_entries(wanted: Wanted, n: int, follows: bool, program: str = "docker") -> Iterator[Entry]:
    """Yield wanted entries of the services of `docker compose` in this folder. Raises SettingsError where it cannot be started."""
    command = [program, "compose", "logs", "--no-color", "--tail", str(n), *(["--follow"] if follows else [])]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    except OSError as error:
        raise SettingsError(f"--compose: {program} cannot be started ({type(error).__name__}): install Docker, or name --folder") from None
    assert process.stdout is not None and process.stderr is not None
    last: dict[str, Entry] = {}
    with process:
        for line in process.stdout:
            if (found := _COMPOSE.fullmatch(line.rstrip("\n"))) is None:
                continue
            entry = parse(found[1], found[2])
            if entry is None:  # a line of a traceback comes with the level of what it belongs to
                before = last.get(found[1])
                entry = Entry(found[1], 0.0, before.level if before else "", before.logger if before else "", found[2])
            last[found[1]] = entry
            if wanted.takes(entry):
                yield entry
        failure = process.stderr.read().strip()
    if process.returncode:
        raise SettingsError(f"--compose: docker compose ended with code {process.returncode}: {failure[:200] or 'no message'}")


def note_stack(folder: Path) -> Path:
    """Remember the folder of the stack that starts, so that `recsys logs` finds it. Returns where it is noted."""
    note = _note()
    note.unlink(missing_ok=True)
    opened = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "w") as file:
        file.write(str(folder))
    return note


def noted_folder() -> Path:
    """Return the folder of the stack that started last. Raises SettingsError where there is none, or where another user wrote the note."""
    note = _note()
    try:
        found = note.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
            folder = Path(note.read_text())
            if folder.is_dir():
                return folder
    except OSError:
        pass
    raise SettingsError("--folder: no `recsys up` of this user is known: name its folder, or pass --compose")


def _note() -> Path:
    return Path(tempfile.gettempdir(), f"recsys-up-{os.getuid()}")
