"""docs/configuration.md says what the settings say, and the README names only tests that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from workers.operations.settings_doc import main, stale, table
from workers.settings import Settings

ROOT = Path(__file__).resolve().parents[4]


def test_the_document_is_what_the_settings_say() -> None:
    assert not stale(), "run python -m workers.operations.settings_doc"


def variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{prefix}{name}__".upper())
        else:
            yield f"{prefix}{name}".upper()


def test_every_setting_has_one_row() -> None:
    rows = re.findall(r"^\| `(RECSYS_\w+?__\w+)` \|", table(), re.MULTILINE)
    assert rows == list(variables(Settings, "RECSYS_"))
    assert "RECSYS_LISTS__DIVERSITY__KIND" in rows


def test_neither_environment_nor_file_nor_a_secret_reaches_the_document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = table()
    file = tmp_path / "recsys.toml"
    file.write_text("[lists]\nsize = 7\n", "utf-8")
    monkeypatch.setenv("RECSYS_CONFIG", str(file))
    monkeypatch.setenv("RECSYS_REDIS__PASSWORD", "a-secret")
    monkeypatch.setenv("RECSYS_REDIS__URL", "redis://someone:a-secret@elsewhere:1/0")
    assert table() == before


def test_check_fails_on_a_stale_document_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "configuration.md"
    assert main(["--check"], document) == 1
    assert not document.exists()
    assert main([], document) == 0
    assert main(["--check"], document) == 0
    document.write_text(document.read_text("utf-8").replace("recsys.events", "other.events"), "utf-8")
    assert main(["--check"], document) == 1
    assert "stale" in capsys.readouterr().err


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs" / "adr").glob("*.md"))])
def test_every_test_and_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    defined = {name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))}
    assert set(re.findall(r"`(test_\w+)`", text)) <= defined
    linked = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert [target for target in linked if not ((ROOT / page).parent / target).exists()] == []
