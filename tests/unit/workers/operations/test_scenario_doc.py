"""The pages on scenarios name the settings that `recsys init` writes, and their pictures are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workers.operations.scenario_doc import BEGIN, END, FOLDER, main, page_of, stale, tables
from workers.operations.scenarios import SCENARIOS, settings_file


def test_the_pages_are_what_init_writes() -> None:
    assert not stale(), "run python -m workers.operations.scenario_doc"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_table_has_each_setting_that_differs_once_with_its_reason(name: str) -> None:
    rows = re.findall(r"(?m)^\| `([a-z_]+)\.([a-z_]+)` \| (.+) \| (.+) \| (.*) \|$", tables(name))
    written = settings_file(name)
    assert len(rows) > 10 and len({row[:2] for row in rows}) == len(rows)
    for section, key, usual, here, why in rows:
        assert f"[{section}]" in written and re.search(rf"(?m)^{key} = ", written), (section, key)
        assert usual != here and (why or key == "similar")
        assert all(f"# {part}" in written for part in [why] if why and key not in ("rules",))
    kinds = re.findall(r"(?m)^\| `([a-z_]+)` \| ", tables(name))
    assert kinds == re.findall(r'(?m)^  \{kind = "([a-z_]+)"', written), "the rows of the page, in order"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_page_shows_its_pictures_and_the_command(name: str) -> None:
    text = page_of(name).read_text("utf-8")
    for picture in (f"scenario-{name}.png", f"scenario-{name}-phone.png"):
        assert f"images/{picture}" in text and (FOLDER / "images" / picture).stat().st_size > 10_000
    assert f"recsys init {name} --with-data" in text


def test_check_names_stale_pages_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in SCENARIOS:
        page_of(name, tmp_path).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    assert main(["--check"], tmp_path) == 1
    assert "scenario-shop.md is stale" in capsys.readouterr().err and "old" in page_of("shop", tmp_path).read_text("utf-8")
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    text = page_of("news", tmp_path).read_text("utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "lists.freshness" in text
