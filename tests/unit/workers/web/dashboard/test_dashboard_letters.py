"""Dead letters and the system on pages: for admins, as text, without secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from schemas import DeadLetter, Poison
from schemas.dead_letters import make_dead_letter
from tests.dashboard import KEYS, SCRIPT, dashboard
from workers.operations.dead_letters import Choice, SourcePlace
from workers.operations.finding import Finding
from workers.operations.redrive import Outcome, Verdict
from workers.settings import Settings
from workers.web.dashboard import letter_pages
from workers.web.dashboard.letter_pages import LetterPages
from workers.web.dashboard.system_pages import SystemPages

NOW_MS = 1_800_000_000_000


def letter(number: int, topic: str, reason: str = "item_id is missing: send one") -> DeadLetter:
    poison = Poison("item_id", reason, "invalid_field")
    return make_dead_letter(
        poison,
        source_topic=topic,
        source_partition=0,
        source_offset=number,
        source_timestamp_ms=NOW_MS,
        key=b"u1",
        value=b"{}",
        dead_letter_ts_ms=NOW_MS + number,
    )


class FakeDesk:
    """Letters in memory; a redrive accepts every record of an even offset."""

    def __init__(self, letters: list[DeadLetter]) -> None:
        self.letters, self.sent = letters, list[int]()

    def newest(self, settings: Settings, choice: Choice, limit: int) -> list[DeadLetter]:
        return [one for one in self.letters if choice.takes(one)][:limit]

    def counts(self, settings: Settings, choice: Choice) -> Counter[tuple[str, str]]:
        return Counter((one.kind, one.source_topic) for one in self.letters if choice.takes(one))

    def all(self, settings: Settings, choice: Choice) -> Iterable[DeadLetter]:
        return [one for one in self.letters if choice.takes(one)]

    def redrive(self, settings: Settings, letters: Iterable[DeadLetter], dry_run: bool) -> list[Verdict]:
        verdicts = []
        for one in letters:
            accepted = one.source_offset % 2 == 0
            if accepted and not dry_run:
                self.sent.append(one.source_offset)
            outcome = Outcome.STILL_REFUSED if not accepted else Outcome.REDRIVABLE if dry_run else Outcome.REDRIVEN
            verdicts.append(Verdict(SourcePlace.of(one), outcome, "" if accepted else "still wrong"))
        return verdicts


async def test_letters_are_shown_by_reason_and_filtered() -> None:
    async with dashboard() as world:
        topics = world.settings.topics
        desk = FakeDesk([letter(0, topics.events, SCRIPT), letter(1, topics.items)])
        world.replace_parts(letters=LetterPages(world.settings, desk))
        text = await world.page("/dead-letters", "admin")
        assert f"{topics.events}:0:0" in text and f"{topics.items}:0:1" in text and "<script>alert" not in text and "alert(" in text
        text = await world.page("/dead-letters?topic=items", "admin")
        assert f"{topics.events}:0:0" not in text and f"{topics.items}:0:1" in text
        assert "No such dead letters" in await world.page("/dead-letters?kind=not_json", "admin")
        for query in ("topic=secrets", "minutes=x", "minutes=-1", "minutes=nan"):
            assert (await world.get(f"/dead-letters?{query}", "admin")).status_code == 422, query


async def test_a_redrive_says_first_what_would_become_of_the_letters_and_then_sends() -> None:
    async with dashboard() as world:
        desk = FakeDesk([letter(number, world.settings.topics.events) for number in range(4)])
        world.replace_parts(letters=LetterPages(world.settings, desk))
        dry = (await world.post("/api/dead-letters/redrive", {"dry_run": True, "minutes": ""}, "admin")).json()
        assert dry["counts"] == {"redrivable": 2, "still_refused": 2} and not desk.sent and "still wrong" in dry["left"][0]
        wet = (await world.post("/api/dead-letters/redrive", {"dry_run": False}, "admin")).json()
        assert wet["counts"] == {"redriven": 2, "still_refused": 2} and desk.sent == [0, 2]
        assert (await world.post("/api/dead-letters/redrive", {}, "admin")).status_code == 422, "nothing is sent by default"


async def test_too_many_letters_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letter_pages, "MOST_AT_ONCE", 3)
    async with dashboard() as world:
        desk = FakeDesk([letter(number, world.settings.topics.events) for number in range(4)])
        world.replace_parts(letters=LetterPages(world.settings, desk))
        assert (await world.post("/api/dead-letters/redrive", {"dry_run": False}, "admin")).status_code == 422 and not desk.sent


async def test_letters_and_the_system_need_the_scope_admin() -> None:
    async with dashboard() as world:
        for key in ("reader", "writer"):
            for path in ("/dead-letters", "/system"):
                assert (await world.get(path, key)).status_code == 403
            assert (await world.post("/api/dead-letters/redrive", {"dry_run": False}, key)).status_code == 403
        overview = await world.page("/", "reader")
        assert "/dead-letters" not in overview and "/system" not in overview


async def test_the_system_shows_findings_sizes_and_settings_without_secrets() -> None:
    async with dashboard() as world:
        findings = [Finding("redis", "wrong", SCRIPT, "start it")]
        world.replace_parts(system=SystemPages(world.settings, lambda settings: findings))
        text = await world.page("/system", "admin")
        assert "history_length" in text and "start it" not in text
        assert not any(key in text for key in KEYS.values())
        examined = await world.page("/system?doctor=1", "admin")
        assert "start it" in examined and "wrong" in examined and "<script>alert" not in examined
