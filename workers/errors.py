"""Errors of the shell. `schemas.errors.Poison` is their sibling for one unreadable record.

    WorkerError
    ├── Transient    try again, with backoff, without committing
    ├── Fenced       another worker owns this: drop it and rejoin
    └── Fatal        stop, saying what to do
        └── SettingsError   wrong settings; a command exits with 2
"""


class WorkerError(Exception):
    """Base of everything `workers` raises on purpose."""


class Transient(WorkerError):
    """The other side is away or busy; the same call may succeed later."""


class Fenced(WorkerError):
    """Another worker moved the watermark; what this one holds is stale."""


class Fatal(WorkerError):
    """Going on would lose or corrupt something; the message says what to do."""


class SettingsError(Fatal):
    """A setting is wrong; the message names it and the remedy."""
