"""What a worker knows of its partitions follows the group, and nothing of a partition that was lost is committed."""

from __future__ import annotations

import pytest

from workers.errors import Transient
from workers.kafka import bounded_reading
from workers.kafka.records import Record
from workers.stream.catch_up import LOOK_S, CatchUp
from workers.stream.partitions import Partitions


def records(partition: int, *source_offsets: int) -> list[Record]:
    return [Record("events", partition, source_offset, b"u", b"{}") for source_offset in source_offsets]


def owning(*partitions: int, at: int = 0) -> Partitions:
    made = Partitions("events")
    made.take(partitions)
    for partition in partitions:
        made.own(partition, at, has_deferred_lists=False)
    return made


def test_a_partition_is_assigned_then_owned_and_forgotten_when_it_goes() -> None:
    at = Partitions("events")
    at.take([1, 0])
    assert (at.assigned, at.owned) == ([0, 1], [])
    at.own(0, 5, has_deferred_lists=True)
    assert (at.assigned, at.owned, at.next_offsets, at.with_deferred_lists) == ([1], [0], {0: 5}, [0])
    at.withdraw([0, 1])
    assert (at.assigned, at.owned) == ([], [0]), "the batch in hand is finished first"
    at.disown([0, 1])
    assert (at.assigned, at.owned, at.next_offsets) == ([], [], {})


def test_only_what_is_published_of_partitions_that_are_still_here_is_committed_and_once() -> None:
    at = owning(0, 1)
    at.note_published({0: 4, 1: 7})
    at.disown([1])
    at.note_published({1: 9})
    assert at.take_uncommitted() == {0: 4} and at.take_uncommitted() == {}


def test_starting_over_forgets_offsets_and_keeps_that_lists_are_deferred() -> None:
    at = owning(0, 1)
    at.note_applied({0: 4})
    at.note_published({0: 4})
    at.note_deferred([0])
    at.begin({0: records(0, 4)})
    at.start_over([0, 2])
    assert (at.assigned, at.owned, at.next_offsets, at.take_uncommitted()) == ([0, 2], [], {}, {})
    assert at.with_deferred_lists == [] and at.describe_applying() == ""
    at.own(0, 0, has_deferred_lists=False)
    assert at.with_deferred_lists == [0]


def test_records_that_do_not_continue_where_the_last_batch_ended_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_reading.GAPS, "_starts", {})
    at, sought = owning(0, 1, 2, at=5), list[tuple[int, int]]()

    def seek(partition: int, next_offset: int) -> None:
        sought.append((partition, next_offset))

    polled = {0: records(0, 3, 4, 5, 6), 1: records(1, 8, 9), 3: records(3, 0)}
    assert at.contiguous(polled, seek) == {0: records(0, 5, 6)} and sought == [(1, 5)], "a hole is looked at once more"
    assert at.contiguous({1: records(1, 8, 9)}, seek) == {1: records(1, 8, 9)} and sought == [(1, 5)], "and then it is the log's own"
    with pytest.raises(Transient, match="partition 2: the log went back"):
        at.contiguous({2: records(2, 1, 2)}, seek)


def test_where_a_batch_stands_still_is_named_for_five_partitions_at_most() -> None:
    at = owning(*range(7))
    at.begin({partition: records(partition, 0, 3) for partition in range(7)})
    said = at.describe_applying()
    assert (
        said.startswith("not applied: partition 0, offsets 0 to 3; partition 1") and said.endswith("and more") and "partition 5" not in said
    )
    at.end()
    assert at.describe_applying() == ""


def test_lists_are_deferred_far_behind_and_made_again_only_nearly_at_the_end() -> None:
    now_s = 0.0
    at = CatchUp(100, lambda: now_s)
    assert at.is_due(is_full=False)
    for lag, is_behind in ((100, False), (101, True), (50, True), (11, True), (10, False), (100, False)):
        at.look({0: lag})
        assert at.is_behind is is_behind, lag
    assert not at.is_due(is_full=False) and at.is_due(is_full=True)
    at.look({0: 60, 1: 60})
    assert at.is_behind and not at.is_due(is_full=True), "already deferred"
    now_s = LOOK_S
    assert at.is_due(is_full=False)
