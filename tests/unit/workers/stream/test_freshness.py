"""The freshness benchmark matches events with lists as a consumer would, reads triggers off real records, and counts from when events were
due."""

from __future__ import annotations

import gc
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import open_load
from benchmarks.datasets import generated_stream
from benchmarks.live import sections_of, split_users, triggered_by, until_listed_s
from benchmarks.open_load import Plan, arrivals
from benchmarks.recovery import recovery
from recsys.engine import Lists
from workers.lists.encoding import ItemIds, ListHead, encode_lists

USERS = st.sampled_from([b"u1", b"u2"])


@given(
    st.lists(st.tuples(USERS, st.integers(0, 20), st.floats(0, 5)), max_size=12),
    st.lists(st.tuples(USERS, st.integers(0, 20), st.floats(5, 10)), max_size=12),
)
def test_an_event_waits_for_the_first_list_of_its_user_that_is_up_to_date_with_it(
    events: list[tuple[bytes, int, float]], lists: list[tuple[bytes, int, float]]
) -> None:
    waited = until_listed_s(
        [user for user, _, _ in events], np.array([at for _, at, _ in events], np.int64), np.array([d for _, _, d in events]), lists
    )
    for (user, source_offset, due_s), found in zip(events, waited.tolist(), strict=True):
        later = [consumed_s for of, trigger, consumed_s in lists if of == user and trigger >= source_offset]
        assert math.isnan(found) if not later else found == min(later) - due_s


@given(st.integers(0, 4_095), st.integers(0, 2**63 - 1))
def test_the_trigger_is_read_off_a_real_list(partition: int, source_offset: int) -> None:
    nothing = np.zeros((1, 1), np.int64) - 1
    because = np.full((1, 1, 2), -1, np.int64)
    lists = Lists(nothing, np.full((1, 1), -np.inf, np.float32), np.ones((1, 1), np.float32), {}, because)
    head = ListHead('1-2-3"list_id":"', partition, source_offset, "e1")
    ids = ItemIds(["i1"]).texts()
    record = encode_lists([head], lists, ids, generated_ts_ms=1_700_000_000_000, model_versions={}, variant="default")[0]
    assert json.loads(record)["trigger"]["source_offset"] == source_offset == triggered_by(record)


def test_dealing_keeps_every_event_and_no_user_comes_twice_in_a_turn() -> None:
    stream = generated_stream(2_000, seed=0, n_users=50)
    found = split_users(stream, copies=4)
    as_before = [(user.rsplit(".", 1)[0], item) for user, item in zip(found.users, found.items, strict=True)]
    assert Counter(as_before) == Counter(zip(stream.users, stream.items, strict=True))
    n_users = len(set(found.users))
    assert n_users == 200
    assert len(set(found.users[:n_users])) == n_users


def test_arrivals_have_the_rate_and_come_again_with_the_seed() -> None:
    due_s = arrivals(20_000, 500.0, seed=1)
    assert (np.diff(due_s) >= 0).all()
    assert due_s[-1] == pytest.approx(40.0, rel=0.05)
    assert (due_s == arrivals(20_000, 500.0, seed=1)).all()


def test_offsets_of_a_plan_count_on_from_each_partitions_end() -> None:
    records = [(partition, b"k", b"v") for partition in (0, 2, 0, 0, 2)]
    plan = Plan("", "events", {0: 7, 1: 1, 2: 0}, records, np.zeros(5))
    partitions, offsets = plan.places()
    assert partitions.tolist() == [0, 2, 0, 0, 2]
    assert offsets.tolist() == [7, 0, 8, 9, 1]


class StalledProducer:
    """Takes the first record only after a while, as a broker in trouble makes a client wait."""

    STALL_S = 0.2

    def __init__(self, error: str | None = None) -> None:
        self.sent: list[bytes] = []
        self._error = error

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Callable[[str | None, object], None]) -> None:
        if not self.sent:
            time.sleep(self.STALL_S)
        self.sent.append(value)
        on_delivery(self._error, value)

    def poll(self, timeout_s: float) -> int:
        return 0

    def flush(self, timeout_s: float) -> int:
        return 0


def loaded(producer: StalledProducer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> open_load.Sent:
    """How a load of three events went with this producer."""
    monkeypatch.setattr(open_load, "connected", lambda plan: producer)
    monkeypatch.setattr("sys.stdin", type("Start", (), {"readline": staticmethod(lambda: f"{time.monotonic()!r}\n")}))
    path = folder / "a.plan"
    Plan("", "events", {0: 0}, [(0, b"k", b"v")] * 3, np.array([0.0, 0.05, 0.1])).write(path)
    try:
        open_load.run(path)
    finally:
        gc.enable()
    return open_load.Sent.read(path)


def test_what_a_stalled_client_held_up_is_late_by_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = loaded(StalledProducer(), tmp_path, monkeypatch)
    assert (sent.late_s[1:] >= StalledProducer.STALL_S - np.array([0.05, 0.1]) - 0.01).all()


def test_a_record_that_was_not_taken_fails_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="too large"):
        loaded(StalledProducer("too large"), tmp_path, monkeypatch)


def test_recovery_is_that_of_the_last_partition_and_lasts_until_no_list_is_late() -> None:
    partitions = np.array([0, 1, 0, 1, 0, 1, 1])
    due_s = np.array([-2.0, -2.0, 0.5, 0.5, 1.0, 6.0, 9.0])
    waited_s = np.array([0.1, 0.2, 0.1, 7.0, 0.1, 1.0, 0.1])
    assert recovery(partitions, due_s, waited_s) == {"first_list_s": 7.0, "last_late_list_s": 7.5}
    at_once = np.full(7, 0.1)
    assert recovery(partitions, due_s, at_once) == {"first_list_s": 0.6, "last_late_list_s": 0.0}


def test_settings_to_try_are_read_as_sections() -> None:
    assert sections_of(["stream.batch_wait_ms=5", "lists.variant=b"]) == {"stream": {"batch_wait_ms": 5}, "lists": {"variant": "b"}}
    with pytest.raises(ValueError, match=r"SECTION\.NAME=VALUE"):
        sections_of(["batch_wait_ms=5"])
