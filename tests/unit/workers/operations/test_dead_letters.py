"""Which letters are meant, what their records' places hold, and what may be sent again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import DeadLetter, Poison, make_dead_letter
from schemas.decoding import key_of
from tests.builders import START_MS, play, value_of
from workers.cli.app import run
from workers.errors import SettingsError
from workers.kafka.records import runs
from workers.operations.dead_letters import FIRST_LOOK_RECORDS, MAX_LOOK_RECORDS, Choice, Sighting, SourcePlace, identify, looks
from workers.operations.redrive import Outcome, decoders, judge
from workers.settings import load_settings

GOOD = value_of(play("u1", "i1", 1))


@dataclass(frozen=True)
class Record:
    key: bytes | None
    value: bytes | None


def letter_of(key: bytes | None = b"u1", value: bytes | None = GOOD, **fields: Any) -> DeadLetter:
    place = {"source_topic": "recsys.events", "source_partition": 3, "source_offset": 17, "source_timestamp_ms": START_MS}
    made = make_dead_letter(
        Poison("record", "record: not JSON", fields.pop("kind", "not_json")),
        **{"key": key, "value": value, "dead_letter_ts_ms": START_MS, **place, **fields},
    )
    return made


def test_a_place_is_the_key_of_its_letter_and_reads_back() -> None:
    letter = letter_of()
    assert str(SourcePlace.of(letter)).encode() == key_of(letter)
    assert SourcePlace.parse(str(SourcePlace.of(letter))) == SourcePlace("recsys.events", 3, 17)


@pytest.mark.parametrize("text", ["", "recsys.events", "recsys.events:1", ":1:2", "t:1:", "t:-1:2", "t:1:2.0", "t:x:2", "t:1:²"])
def test_what_is_no_place_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(SettingsError, match="PLACE: give topic:partition:offset"):
        SourcePlace.parse(text)


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        (Choice(), True),
        (Choice(kind="not_json", topic="recsys.events", since_ms=START_MS, places=frozenset({SourcePlace("recsys.events", 3, 17)})), True),
        (Choice(kind="too_large"), False),
        (Choice(topic="recsys.items"), False),
        (Choice(since_ms=START_MS + 1), False),
        (Choice(places=frozenset({SourcePlace("recsys.events", 3, 18)})), False),
    ],
)
def test_a_letter_is_meant_only_if_every_filter_takes_it(choice: Choice, taken: bool) -> None:
    assert choice.takes(letter_of()) is taken


@given(st.integers(0, 300_000), st.integers(0, 300_000))
def test_looks_cover_every_offset_once_from_the_end_backwards(start: int, length: int) -> None:
    ranges = list(looks(start, start + length))
    assert sum(upper - lower for lower, upper in ranges) == length
    assert all(earlier[1] == later[0] for later, earlier in pairwise(ranges))
    assert all(0 < upper - lower <= MAX_LOOK_RECORDS for lower, upper in ranges)
    if length:
        assert ranges[0] == (start + max(0, length - FIRST_LOOK_RECORDS), start + length) and ranges[-1][0] == start


@given(st.sets(st.integers(0, 10_000)), st.integers(1, 3_000))
def test_runs_keep_every_offset_and_break_exactly_at_wide_gaps(offsets: set[int], jump: int) -> None:
    cut = runs(sorted(offsets), jump)
    assert [offset for run in cut for offset in run] == sorted(offsets)
    assert all(b - a <= jump for run in cut for a, b in pairwise(run))
    assert all(b[0] - a[-1] > jump for a, b in pairwise(cut))


@pytest.mark.parametrize(
    ("record", "sighting"),
    [
        (Record(b"u1", GOOD), Sighting.PRESENT),
        (None, Sighting.GONE),
        (Record(b"u1", GOOD + b" "), Sighting.CHANGED),
        (Record(b"u2", GOOD), Sighting.CHANGED),
        (Record(None, GOOD), Sighting.CHANGED),
        (Record(b"u1", None), Sighting.CHANGED),
    ],
)
def test_only_the_very_key_and_value_are_the_letter_s_record(record: Record | None, sighting: Sighting) -> None:
    assert identify(letter_of(), record) is sighting


def test_a_record_without_key_or_value_is_told_from_an_empty_one() -> None:
    assert identify(letter_of(key=None, value=None), Record(None, None)) is Sighting.PRESENT
    assert identify(letter_of(key=None, value=None), Record(b"", b"")) is Sighting.CHANGED


@pytest.mark.parametrize(
    ("key", "value", "outcome", "reason"),
    [
        (b"u1", GOOD, Outcome.REDRIVABLE, ""),
        (b"u1", b"{", Outcome.STILL_REFUSED, "record: "),
        (b"u2", GOOD, Outcome.STILL_REFUSED, "key: "),
    ],
)
def test_today_s_decoder_decides_over_the_letter_s_own_record(key: bytes, value: bytes, outcome: Outcome, reason: str) -> None:
    decode = decoders(load_settings())["recsys.events"]
    verdict = judge(letter_of(key, value), Record(key, value), decode)
    assert verdict.outcome is outcome and verdict.reason.startswith(reason)


def test_a_record_that_is_not_the_letter_s_never_reaches_the_decoder() -> None:
    def refuse(value: bytes | None, key: bytes | None) -> object:
        raise AssertionError("decoded")

    assert judge(letter_of(), Record(b"u1", b"another"), refuse).outcome is Outcome.CHANGED
    assert judge(letter_of(), None, refuse).outcome is Outcome.GONE


def test_an_event_from_the_future_is_redrivable_once_its_time_has_come() -> None:
    settings = load_settings(stream={"future_skew_s": 60})
    event_s = START_MS // 1000 + 1
    record = Record(b"u1", value_of(play("u1", "i1", 1)))
    early, late = (decoders(settings, lambda now_s=now_s: now_s)["recsys.events"] for now_s in (event_s - 61, event_s - 60))
    assert judge(letter_of(), record, early).outcome is Outcome.STILL_REFUSED
    assert judge(letter_of(), record, late).outcome is Outcome.REDRIVABLE


def test_every_input_topic_and_no_other_has_a_decoder() -> None:
    topics = load_settings().topics
    assert set(decoders(load_settings())) == {topics.events, topics.items, topics.users, topics.models}


@pytest.mark.parametrize(
    "arguments",
    [[], ["--all", "--kind", "not_json"], ["t:0:1", "--all"], ["t:0:1", "--since", "5"], ["t:0"]],
)
def test_redrive_says_how_letters_are_chosen_before_it_connects(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dlq", "redrive", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search("choose letters by PLACE|give topic:partition:offset", said)


ERASURE = b'{"user_id":"u1","type":"erase","event_ts_ms":%d}' % START_MS
RESERVED = b"recsys:default"


@pytest.mark.parametrize(
    ("topic", "value", "outcome", "field"),
    [
        ("recsys.events", ERASURE, Outcome.REDRIVABLE, ""),
        ("recsys.events", ERASURE.replace(b'"u1"', b'"recsys:default"'), Outcome.STILL_REFUSED, "key"),
        ("recsys.events", GOOD.replace(b'"u1"', b'"recsys:default"'), Outcome.STILL_REFUSED, "key"),
        ("recsys.users", b'{"user_id":"recsys:default"}', Outcome.STILL_REFUSED, "key"),
        ("recsys.users", b'{"user_id":"u1","merged_into":"recsys:default"}', Outcome.STILL_REFUSED, "merged_into"),
        ("recsys.users", b'{"user_id":"u1","merged_into":"u2"}', Outcome.REDRIVABLE, ""),
    ],
)
def test_what_workers_refuse_is_not_sent_again_and_what_they_take_is(topic: str, value: bytes, outcome: Outcome, field: str) -> None:
    settings = load_settings(lists={"shared_every_s": 60})
    key = RESERVED if b'"user_id":"recsys:default"' in value else b"u1"
    letter = letter_of(key, value, source_topic=topic)
    found = judge(letter, Record(key, value), decoders(settings)[topic])  # type: ignore[arg-type]
    assert found.outcome is outcome and found.reason.startswith(field), found
    if RESERVED in value:
        assert judge(letter, Record(key, value), decoders(load_settings())[topic]).outcome is Outcome.REDRIVABLE  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [["users", "merge", "a", "recsys:default"], ["users", "erase", "recsys:default", "--yes"]])
def test_ids_of_no_user_are_refused_before_a_broker_is_asked(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_LISTS__SHARED_EVERY_S", "60")
    assert run(command) == 2
    assert "recsys:default: ids that begin with recsys: are of lists that belong to no user" in capsys.readouterr().err
