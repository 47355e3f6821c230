from __future__ import annotations

import json
from typing import Any

import pytest

from schemas import Poison, UserErasure, decode_events, encode
from schemas.erasures import erased_user
from tests.builders import play, value_of

NOW_MS = 1_800_000_000_000
RECORD = UserErasure(user_id="u1", type="erase", event_ts_ms=NOW_MS)


def decoded(*records: tuple[bytes | None, bytes | None]) -> Any:
    return decode_events(list(records), record_ts_ms=[NOW_MS] * len(records), future_skew_ms=1_000)


def test_erasures_stand_beside_the_events_of_a_batch_with_their_places() -> None:
    event = value_of(play("u1", "i1", 1))
    found = decoded((b"u1", event), (b"u1", encode(RECORD)), (b"u1", b"{"), (b"u1", event))
    assert found.erasures == [(1, "u1")] and found.index == [0, 3] and [at for at, _ in found.poisons] == [2]


def test_an_erasure_under_another_key_is_refused_and_names_the_key() -> None:
    for key in (b"u2", None, b""):
        with pytest.raises(Poison) as caught:
            erased_user(encode(RECORD), key)
        assert caught.value.kind == "key_mismatch"
    found = decoded((b"u2", encode(RECORD)))
    assert found.erasures == [] and found.poisons[0][1].field == "key"


@pytest.mark.parametrize(
    "change",
    [{"type": "erased"}, {"user_id": ""}, {"user_id": 7}, {"event_ts_ms": "now"}, {"schema_version": 2}, {"event_ts_ms": None}],
    ids=str,
)
def test_what_is_no_erasure_erases_nobody_and_is_refused_as_an_event(change: dict[str, Any]) -> None:
    value = json.dumps({**json.loads(encode(RECORD)), **change}).encode()
    found = decoded((b"u1", value))
    assert found.erasures == [] and len(found.poisons) == 1
    if "type" not in change:
        assert found.poisons[0][1].field == next(iter(change)), "the fault of an erasure is named as that of one"


def test_events_that_only_speak_of_erasing_are_events() -> None:
    event = {**json.loads(value_of(play("u1", "i1", 1))), "context": {"button": "erase", "kind": '"erase"'}, "session": "erase"}
    found = decoded((b"u1", json.dumps(event).encode()))
    assert found.index == [0] and found.erasures == []


def test_a_time_ahead_of_the_log_does_not_keep_a_user_from_being_erased() -> None:
    ahead = RECORD.model_copy(update={"event_ts_ms": NOW_MS + 86_400_000})
    assert decoded((b"u1", encode(ahead))).erasures == [(0, "u1")]
