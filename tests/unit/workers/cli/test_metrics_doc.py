"""The page of metrics is the workers' own, and no metric is labelled with an id."""

from __future__ import annotations

import pytest

from workers.cli import metrics_doc
from workers.stream import app as stream_app

IDS = {"user", "user_id", "item", "item_id", "event_id", "session", "list_id", "key"}


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build workers without changing this process."""
    monkeypatch.setattr(stream_app, "_calm_garbage_collector", lambda: None)
    monkeypatch.setattr(stream_app, "compile_lists", lambda *_: None)


def test_the_page_is_up_to_date() -> None:
    made = metrics_doc.document()
    assert metrics_doc.DOCUMENT.read_text("utf-8") == made, "run python -m workers.cli.metrics_doc"


def test_labels_name_no_person_and_no_item_and_every_metric_says_what_it_is() -> None:
    for kind, families in metrics_doc.worker_families().items():
        assert len(families) > 10, kind
        for family in families:
            assert not IDS & set(family.labels) and family.text.endswith("."), family
