"""`recsys explain USER --diff` says by signs and words what came, went and moved; colours only repeat it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.workers.cli.test_every_command import IDS, answering, answering_later, explanation, listed
from workers.cli import app as application


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def show(published: Any) -> list[list[str]]:
        monkeypatch.setattr("workers.operations.explain.explain", answering_later(explanation()))
        monkeypatch.setattr("workers.lists.reader.newest_list", answering(published))
        assert application.run(["explain", IDS[0], "--diff"]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line.startswith("│")]
        return [row for row in rows if row[0]] + [[out.splitlines()[0]]]

    return show


def test_the_same_list_has_no_difference(shown: Any) -> None:
    *rows, [title] = shown(listed(IDS[0]))
    assert {row[0] for row in rows} == {"="} and "against list l1" in title


def test_what_came_went_and_moved_is_named(shown: Any) -> None:
    made = listed(IDS[0])
    before = [made.items[1], made.items[0], *made.items[3:]]
    items = tuple(item.model_copy(update={"rank": rank}) for rank, item in enumerate(before, 1))
    *rows, _ = shown(made.model_copy(update={"items": items, "rows": ()}))
    assert [row[0] for row in rows[:3]] == ["up from 2", "down from 1", "+"]
    gone = made.items[0].model_copy(update={"rank": len(made.items) + 1, "item_id": "gone"})
    *rows, _ = shown(made.model_copy(update={"items": (*made.items, gone)}))
    assert rows[-1][:2] == ["-", f"was {len(made.items) + 1}"]


def test_a_user_without_a_list_gets_all_of_it_as_new(shown: Any) -> None:
    *rows, [title] = shown(None)
    assert {row[0] for row in rows} == {"+"} and "no list is published yet" in title
