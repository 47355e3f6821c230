"""What was kept of the event log follows the topics of the new broker, or is moved aside (P9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.errors import Fatal
from workers.operations.kept_state import fit_event_log
from workers.trainer.event_log import EventLog


def test_an_event_log_that_fits_follows_the_topic_s_new_id(tmp_path: Path) -> None:
    folder = tmp_path / "event-log"
    assert fit_event_log(folder, "events", "new", {}) is None, "there is none yet"
    EventLog(str(folder), "old")
    with pytest.raises(Fatal, match="another topic"):
        EventLog(str(folder), "new")
    assert fit_event_log(folder, "events", "new", {}) is None
    EventLog(str(folder), "new")


@pytest.mark.parametrize("ends", [{}, {("events", 0): 6}])
def test_an_event_log_that_is_ahead_or_damaged_is_moved_aside_and_never_deleted(
    ends: dict[tuple[str, int], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "event-log"
    for aside in ("event-log.old-1", "event-log.old-2"):
        EventLog(str(folder), "old")
        with monkeypatch.context() as patch:
            patch.setattr(EventLog, "next_offsets", lambda self: {0: 7})
            assert fit_event_log(folder, "events", "new", ends) == tmp_path / aside
        assert (tmp_path / aside / "topic.json").exists() and not folder.exists()
    folder.mkdir()
    (folder / "topic.json").write_text("{")
    assert fit_event_log(folder, "events", "new", {}) == tmp_path / "event-log.old-3"
