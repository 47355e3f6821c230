"""An event id counts once within its chunk of the log and the one before, however the window came to be in memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.duplicates import DuplicateWindow, event_hash

CHUNK = 8


def naive(hashes: list[int]) -> list[bool]:
    """Which of the events at offsets 0, 1, … are new."""
    admitted: list[tuple[int, int]] = []
    answers = []
    for source_offset, hashed in enumerate(hashes):
        chunk = source_offset // CHUNK
        answers.append((chunk, hashed) not in admitted and (chunk - 1, hashed) not in admitted)
        if answers[-1]:
            admitted.append((chunk, hashed))
    return answers


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(0, 60))
def test_a_window_that_was_stored_and_loaded_answers_as_one_that_was_kept(hashes: list[int], restart: int) -> None:
    window, answers = DuplicateWindow(CHUNK), []
    stored: dict[int, list[int]] = {}
    for source_offset, hashed in enumerate(hashes):
        if source_offset == restart:
            newest = (source_offset - 1) // CHUNK
            window = DuplicateWindow(CHUNK)
            window.load({c: np.array(stored.get(c, []), "<u8").tobytes() for c in (newest - 1, newest) if c >= 0})
        answers.append(window.admit(source_offset, hashed))
        if answers[-1]:
            stored.setdefault(window.chunk(source_offset), []).append(hashed)
    assert answers == naive(hashes)


def test_the_same_id_of_another_user_is_another_event() -> None:
    assert event_hash("u1", "e") != event_hash("u2", "e")
    assert 0 <= event_hash("u", "e") < 2**64


@given(st.lists(st.tuples(st.integers(1, 2 * CHUNK), st.integers(0, 2**64 - 1), st.booleans()), max_size=40))
def test_admitted_hashes_are_kept_by_the_chunk_of_their_offset(events: list[tuple[int, int, bool]]) -> None:
    source_offsets = np.cumsum([gap for gap, _, _ in events], dtype=np.int64).tolist()
    expected: dict[int, list[int]] = {}
    for source_offset, (_, hashed, is_admitted) in zip(source_offsets, events, strict=True):
        if is_admitted:
            expected.setdefault(source_offset // CHUNK, []).append(hashed)
    window = DuplicateWindow(CHUNK)
    assert window.by_chunk(source_offsets, [hashed for _, hashed, _ in events], [admitted for _, _, admitted in events]) == expected
