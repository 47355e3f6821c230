"""Lists in memory: the newest of each key, read back byte for byte, within a bound."""

from __future__ import annotations

import orjson
import pytest

from schemas import encode
from tests.gateway import listed
from workers.web.held_lists import HeldLists, version_of

LARGE = 1 << 20


def test_the_newest_list_of_a_key_is_held_whatever_the_order_of_its_records() -> None:
    held = HeldLists(LARGE)
    versions = [(3, 100_000_000_001), (3, 100_000_000_003), (2, 100_000_000_009), (3, 100_000_000_002)]
    for source_offset, generated_ts_ms in versions:
        held.put(b"u", encode(listed("u", ["a"], source_offset=source_offset, generated_ts_ms=generated_ts_ms)))
    assert orjson.loads(held.get("u") or b"")["generated_ts_ms"] == 100_000_000_003
    held.put(b"u", None)
    assert held.get("u") is None and len(held) == 0 and held.n_bytes == 0


@pytest.mark.parametrize("user_id", ["u", 'quo"te', "back\\slash", "ü", "x" * 128])
def test_records_are_read_back_as_they_were_published(user_id: str) -> None:
    held, record = HeldLists(LARGE), encode(listed(user_id, ["a", "b"]))
    held.put(user_id.encode(), record)
    assert held.get(user_id) == record


def test_what_is_no_list_of_its_key_changes_nothing() -> None:
    held, record = HeldLists(LARGE), encode(listed("u", ["a"]))
    held.put(b"u", record)
    other = encode(listed("other", ["b"], source_offset=9))
    for key, value in ((b"u", b"{"), (b"u", other), (b"", record), (None, record), (b"u", record[:-9])):
        held.put(key, value)
    assert held.get("u") == record and len(held) == 1


def test_a_record_of_another_writer_is_read_in_full() -> None:
    fields = listed("u", ["a"]).model_dump(mode="json")
    spaced = orjson.dumps(dict(reversed(fields.items())), option=orjson.OPT_INDENT_2)
    assert version_of(b"u", spaced) == version_of(b"u", encode(listed("u", ["a"])))


def test_beyond_the_bound_lists_go_that_were_read_longest_ago() -> None:
    held = HeldLists(2_000)
    for number in range(6):
        held.put(f"u{number}".encode(), encode(listed(f"u{number}", ["a", "b"])))
        held.get("u0")
    assert held.get("u0") is not None and held.get("u5") is not None and held.get("u1") is None
    assert held.n_bytes <= 2_000 and held.n_dropped > 0
