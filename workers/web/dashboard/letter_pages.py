"""Dead letters as pages show them, and sending refused records again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from schemas import DeadLetter
from workers.operations import dead_letters, redrive
from workers.operations.dead_letters import Choice, SourcePlace
from workers.operations.redrive import Verdict
from workers.settings import Settings
from workers.web.problems import Problem, wrong

SHOWN = 100
MOST_AT_ONCE = 10_000
"""Letters that one press redrives at most; more go by `recsys dlq redrive`."""
SHOWN_VERDICTS = 50
SOURCES = ("events", "items", "users", "models")


@dataclass(frozen=True, slots=True)
class Filter:
    """The part of the letters that a page shows."""

    kind: str = ""
    topic: str = ""
    minutes: float | None = None

    @classmethod
    def of(cls, fields: Any) -> Filter:
        """Return the filter of a query or a body. Raises Problem."""
        kind, topic, minutes = (fields.get(name) or "" for name in ("kind", "topic", "minutes"))
        if not isinstance(kind, str) or not isinstance(topic, str) or topic not in ("", *SOURCES):
            raise wrong("topic", f"choose one of {', '.join(SOURCES)}")
        if minutes == "":
            return cls(kind[:64], topic)
        try:
            number = float(minutes)
        except (TypeError, ValueError):
            raise wrong("minutes", "not a number") from None
        if not 0 < number <= 1e7:
            raise wrong("minutes", "give minutes above 0")
        return cls(kind[:64], topic, number)

    def choice(self, settings: Settings) -> Choice:
        """Return what selects these letters."""
        since_ms = None if self.minutes is None else int((time.time() - self.minutes * 60) * 1000)
        return Choice(self.kind or None, getattr(settings.topics, self.topic) if self.topic else None, since_ms)


class Desk(Protocol):
    """The operations on dead letters, as `workers.operations` has them."""

    def newest(self, settings: Settings, choice: Choice, limit: int) -> list[DeadLetter]: ...

    def counts(self, settings: Settings, choice: Choice) -> Counter[tuple[str, str]]: ...

    def all(self, settings: Settings, choice: Choice) -> Iterable[DeadLetter]: ...

    def redrive(self, settings: Settings, letters: Iterable[DeadLetter], dry_run: bool) -> list[Verdict]: ...


class KafkaDesk:
    """Reads and sends with Kafka."""

    def newest(self, settings: Settings, choice: Choice, limit: int) -> list[DeadLetter]:
        """Return the newest letters."""
        return dead_letters.newest_letters(settings, choice, limit)

    def counts(self, settings: Settings, choice: Choice) -> Counter[tuple[str, str]]:
        """Return how many there are by kind and topic."""
        return dead_letters.count_letters(settings, choice)

    def all(self, settings: Settings, choice: Choice) -> Iterable[DeadLetter]:
        """Return all letters."""
        return dead_letters.scan(settings, choice)

    def redrive(self, settings: Settings, letters: Iterable[DeadLetter], dry_run: bool) -> list[Verdict]:
        """Send records again."""
        return redrive.redrive(settings, letters, dry_run=dry_run)


class LetterPages:
    """Reads dead letters in threads; one redrive at a time."""

    def __init__(self, settings: Settings, desk: Desk | None = None) -> None:
        self._settings, self._desk = settings, KafkaDesk() if desk is None else desk
        self._redriving = asyncio.Lock()

    async def page(self, chosen: Filter) -> tuple[list[tuple[str, DeadLetter]], list[tuple[str, str, int]]]:
        """Return the newest letters with their places, and counts by kind and topic. Raises WorkerError."""
        choice = chosen.choice(self._settings)
        letters = await asyncio.to_thread(self._desk.newest, self._settings, choice, SHOWN)
        counts = await asyncio.to_thread(self._desk.counts, self._settings, choice)
        return [(str(SourcePlace.of(letter)), letter) for letter in letters], [(*named, n) for named, n in counts.most_common()]

    async def redrive(self, chosen: Filter, *, dry_run: bool) -> dict[str, Any]:
        """Return what becomes of the chosen letters, or would. Raises Problem for too many, or while another redrive runs, WorkerError."""
        if self._redriving.locked():
            raise Problem(409, "letters are being redriven already: wait until that has ended")
        async with self._redriving:
            verdicts = await asyncio.to_thread(self._verdicts, chosen, dry_run)
        counts = Counter(verdict.outcome.value for verdict in verdicts)
        left = [verdict for verdict in verdicts if verdict.outcome not in redrive.ON_THE_TOPIC][:SHOWN_VERDICTS]
        return {
            "dry_run": dry_run,
            "counts": dict(counts),
            "left": [f"{verdict.place}: {verdict.outcome.value}{': ' if verdict.reason else ''}{verdict.reason}" for verdict in left],
        }

    def _verdicts(self, chosen: Filter, dry_run: bool) -> list[Verdict]:
        letters: list[DeadLetter] = []
        run: Callable[..., list[Verdict]] = self._desk.redrive
        for letter in self._desk.all(self._settings, chosen.choice(self._settings)):
            letters.append(letter)
            if len(letters) > MOST_AT_ONCE:
                raise Problem(422, f"more than {MOST_AT_ONCE} letters: narrow the filter, or run `recsys dlq redrive`", field="filter")
        return run(self._settings, letters, dry_run)
