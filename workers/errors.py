"""Errors of the shell. `schemas.errors.Poison` is their sibling for one unreadable record.

WorkerError
├── Transient    try again, with backoff, without committing
├── Fenced       another worker owns this: drop it and rejoin
└── Fatal        stop, saying what to do
    └── SettingsError   wrong settings; a command exits with 2
"""

from __future__ import annotations

MESSAGE_CHARS = 300
"""Longest text of an exception in a message: it may quote the input that caused it."""


class WorkerError(Exception):
    """Base of everything `workers` raises on purpose."""


class Transient(WorkerError):
    """The other side is down or busy; the same call may succeed later."""


class Fenced(WorkerError):
    """Another worker moved the watermark; this worker's copy is stale."""


class Fatal(WorkerError):
    """Going on would lose or corrupt something; the message says what to do."""


class SettingsError(Fatal):
    """A setting is wrong; the message names it and the remedy."""


def describe(error: BaseException) -> str:
    """Return the kind of an exception and its text, in one line."""
    text = one_line(error)
    name = type(error).__name__
    return name if text == name else f"{name}: {text}"


def one_line(error: BaseException) -> str:
    """Return an exception's text in one printable line; its kind if it has none."""
    text = printable(str(error))
    return (text if len(text) <= MESSAGE_CHARS else text[:MESSAGE_CHARS] + "…") or type(error).__name__


def printable(text: str) -> str:
    """Return a text in one line; control characters, which a terminal would obey, are replaced."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
