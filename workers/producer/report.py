"""Count what became of the rows of a file, and why rows were refused."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.client import PublishError
from workers.producer.rows import Row

MAX_REPORTED = 1_000
"""Bad rows kept for the caller; all are counted."""
MAX_REASONS = 200
MAX_EXAMPLES = 3
OTHER_REASONS = "other reasons"


@dataclass
class Refusal:
    """Rows refused for one reason: how many, and where the first of them are (part of a folder, line)."""

    n_rows: int = 0
    examples: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class PublishReport:
    """Counts the rows of a file: rows = published + would_publish + bad + undelivered + merged.

    `would_publish` counts the rows that a dry run accepted, `merged` those that became part of the published record of another row,
    `skipped` those before the first one of this run, which are not in `rows`. `bad_rows` holds the first thousand (file, line, reason);
    `file` is the part of a folder. `error` says why the file was not read to its end or not delivered, in one line; `last_line` is the
    last line or row that was read.
    """

    rows: int = 0
    published: int = 0
    would_publish: int = 0
    bad: int = 0
    undelivered: int = 0
    merged: int = 0
    skipped: int = 0
    seconds: float = 0.0
    last_line: int = 0
    interrupted: bool = False
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    bad_rows: list[tuple[str, int, str]] = field(default_factory=list)
    reasons: dict[str, Refusal] = field(default_factory=dict)

    @property
    def skip_rows(self) -> int:
        """Return the rows of the file that need not be sent again, once all that went out are acknowledged."""
        return self.skipped + self.rows

    def counts(self) -> str:
        """Return the counts in words, for messages."""
        done = f"{self.would_publish:,} would be published" if self.would_publish else f"{self.published:,} published"
        return f"{done}, {self.bad:,} bad" + (f", {self.undelivered:,} not delivered" if self.undelivered else "")

    def settle(self) -> None:
        """Leave the row in hand out: it was neither published nor refused."""
        self.rows = self.published + self.would_publish + self.bad + self.merged

    def lose(self, error: PublishError) -> None:
        """Count records that the broker did not take as not published."""
        self.lose_rows(len(error.undelivered))
        self.error = self.error or str(error)

    def lose_rows(self, n: int) -> None:
        """Count so many records as not delivered."""
        n = min(n, self.published)
        self.undelivered += n
        self.published -= n

    def refuse(self, row: Row, reason: str) -> None:
        """Count a bad row, and those that would have been part of its record."""
        self.bad += 1 + row.joined
        if len(self.bad_rows) < MAX_REPORTED:
            self.bad_rows.append((row.file, row.line, reason))
        known = self.reasons.get(reason)
        if known is None:
            known = self.reasons.setdefault(reason if len(self.reasons) < MAX_REASONS else OTHER_REASONS, Refusal())
        known.n_rows += 1 + row.joined
        if len(known.examples) < MAX_EXAMPLES:
            known.examples.append((row.file, row.line))
