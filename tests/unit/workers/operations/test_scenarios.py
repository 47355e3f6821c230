"""The settings that `recsys init` writes are loaded, change what they say, and say why."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from workers.cli import app as application
from workers.cli import init
from workers.operations.scenarios import COMPOSE_FILE, SCENARIOS, settings_file, write_files
from workers.settings import Settings, load_settings
from workers.trainer.training_settings import check_training


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_file_is_loaded_by_the_settings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, _ = write_files(name, tmp_path)
    monkeypatch.setenv("RECSYS_CONFIG", str(written))
    chosen, usual = load_settings(), Settings.model_construct()
    check_training(chosen)
    for section, values in tomllib.loads(written.read_text("utf-8")).items():
        assert values, f"{section} is empty"
        for key in values:
            in_force = getattr(getattr(chosen, section), key)
            if in_force == getattr(getattr(usual, section), key):
                assert re.search(rf"(?m)^{key} = ", settings_file(name)), f"{section}.{key}"
    assert len(chosen.lists.rows) >= 3 and chosen.lists.shared_every_s > 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_line_says_why(name: str) -> None:
    lines = settings_file(name).splitlines()
    for before, line in pairwise(lines):
        if re.match(r"\s*[a-z_]+ = |  \{", line):
            assert before.lstrip().startswith("#") or line == "similar = true", line


def test_scenarios_differ_in_half_lives_repeats_and_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {}
    for name in SCENARIOS:
        (tmp_path / f"{name}.toml").write_text(settings_file(name))
        monkeypatch.setenv("RECSYS_CONFIG", str(tmp_path / f"{name}.toml"))
        chosen[name] = load_settings()
    assert len({made.state.half_life_days for made in chosen.values()}) == len(chosen)
    assert chosen["shop"].touch.by_category["groceries"]["purchase"] == "5d"
    assert chosen["news"].lists.rules and chosen["shop"].related.bought_together
    assert tuple(SCENARIOS) == init.SCENARIOS


def test_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run(["init", "shop", "--folder", str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"recsys.toml", "docker-compose.override.yml"}
    assert application.run(["init", "news", "--folder", str(tmp_path / "new")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert application.run(["init", "bakery"]) == 2


def test_the_compose_override_names_services_of_the_compose_file() -> None:
    compose = (Path(__file__).resolve().parents[4] / "docker-compose.yml").read_text("utf-8")
    services = re.findall(r"(?m)^  ([a-z]+): \*settings$", COMPOSE_FILE)
    assert services == ["provision", "stream", "trainer"] and all(f"\n  {name}:\n" in compose for name in services)
    assert "./recsys.toml:/etc/recsys.toml:ro" in COMPOSE_FILE and "RECSYS_CONFIG: /etc/recsys.toml" in COMPOSE_FILE
    assert "RECSYS_CONFIG" not in compose, "the file of settings is the override's"
