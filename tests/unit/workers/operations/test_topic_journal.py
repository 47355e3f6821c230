"""What is kept of the embedded broker's topics comes back as it was, up to the first damaged record (P9)."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import Fatal
from workers.operations.topic_journal import KeptRecord, TopicJournal

PLACE = ("recsys.events", 3)
BYTES = st.none() | st.binary(max_size=40)
HEADERS = st.lists(st.tuples(st.text(max_size=8), BYTES), max_size=3).map(tuple)
CONTENTS = st.lists(st.tuples(st.integers(-1, 2**50), BYTES, BYTES, HEADERS), min_size=1, max_size=20)


def records_of(contents: list) -> list[KeptRecord]:
    return [KeptRecord(offset, *content) for offset, content in enumerate(contents)]


def opened(folder: str | Path) -> TopicJournal:
    journal = TopicJournal(Path(folder))
    journal.open()
    return journal


@given(CONTENTS, st.integers(0, 20))
def test_records_come_back_in_order_after_any_number_of_appends(contents: list, cut: int) -> None:
    records = records_of(contents)
    with TemporaryDirectory() as folder:
        journal = opened(folder)
        for part in (records[:cut], records[cut:]):
            journal.append(PLACE, part)
        journal.close()
        again = opened(folder)
        assert list(again.read(PLACE)) == records and again.ends == {PLACE: len(records)}


@given(CONTENTS, st.data())
def test_a_file_that_is_cut_or_damaged_anywhere_keeps_every_record_before_that_and_goes_on(contents: list, data: st.DataObject) -> None:
    records = records_of(contents)
    with TemporaryDirectory() as folder:
        journal = opened(folder)
        sizes = [0]
        path = Path(folder) / "recsys.events-3.records"
        for record in records:
            journal.append(PLACE, [record])
            sizes.append(path.stat().st_size)
        journal.close()
        at = data.draw(st.integers(0, sizes[-1] - 1))
        whole = sum(size <= at for size in sizes) - 1
        if data.draw(st.booleans()):
            os.truncate(path, at)
        else:
            content = bytearray(path.read_bytes())
            content[at] ^= 0x55
            path.write_bytes(content)
        again = opened(folder)
        assert list(again.read(PLACE)) == records[:whole]
        again.append(PLACE, [KeptRecord(whole, 7, b"k", b"after")])
        again.close()
        assert [record.value for record in opened(folder).read(PLACE)][whole:] == [b"after"]


def test_offsets_with_a_gap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="gaps"):
        opened(tmp_path).append(PLACE, [KeptRecord(1, 0, None, b"v")])


def test_compaction_keeps_the_chosen_record_of_each_key_and_numbers_them_again(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    contents = [(0, b"a", b"1", ()), (1, b"b", b"2", ()), (2, b"a", b"3", ()), (3, b"c", b"4", ()), (4, b"c", None, ())]
    journal.append(PLACE, records_of(contents))
    journal.compact(PLACE, lambda one, other: other)
    assert [(r.offset, r.key, r.value) for r in journal.read(PLACE)] == [(0, b"b", b"2"), (1, b"a", b"3")]
    journal.append(PLACE, [KeptRecord(2, 9, b"d", b"5")])
    journal.close()
    assert [r.value for r in opened(tmp_path).read(PLACE)] == [b"2", b"3", b"5"]


def test_a_disk_that_refuses_a_part_of_an_append_leaves_the_records_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path)
    journal.append(PLACE, [KeptRecord(0, 0, b"k", b"v")])
    file = journal._files[PLACE]

    class Full:
        def write(self, octets: bytes) -> int:
            file.write(octets[: len(octets) // 2])
            file.flush()
            raise OSError(28, "No space left on device")

        def __getattr__(self, name: str) -> object:
            return getattr(file, name)

    monkeypatch.setitem(journal._files, PLACE, Full())
    with pytest.raises(OSError, match="No space"):
        journal.append(PLACE, [KeptRecord(1, 0, b"k", b"w")])
    monkeypatch.setitem(journal._files, PLACE, file)
    journal.append(PLACE, [KeptRecord(1, 0, b"k", b"x")])
    journal.close()
    assert [record.value for record in opened(tmp_path).read(PLACE)] == [b"v", b"x"]
