"""A worker does not start with a model kind or a training option that does not exist: one line names it and the nearest one."""

from __future__ import annotations

import json

import pytest

from recsys.errors import ModelError
from recsys.models.registry import MODELS
from workers.cli import app as application


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("OPTIONS", {"sasrec": {"max_epoch": 3}}, "setting trainer.options: sasrec has no option max_epoch; did you mean max_epochs?"),
        ("OPTIONS", {"ials": {"zzz": 3}}, "setting trainer.options: ials has no option zzz; there are "),
        ("OPTIONS", {"sasrek": {}}, "setting trainer.options: there is no model kind sasrek; did you mean sasrec?"),
        ("KINDS", ["iasl"], "setting trainer.kinds: there is no model kind iasl; did you mean ials?"),
    ],
)
def test_the_trainer_names_an_unknown_option_and_the_nearest_one(
    name: str, value: object, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"RECSYS_TRAINER__{name}", json.dumps(value))
    assert application.run(["worker", "trainer"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"recsys: {line}") and len(said.err.splitlines()) == 1


def test_a_kind_leaves_out_shared_options_that_it_lacks_and_refuses_its_own() -> None:
    shared = {"factors": 8, "seed": 3}
    assert MODELS["popular"].configure({}, shared).seed == 3
    config = MODELS["ials"].configure({"factors": 16}, shared)
    assert (config.factors, config.seed) == (16, 3)
    with pytest.raises(ModelError, match="popular has no option factors"):
        MODELS["popular"].configure({"factors": 8})


def test_the_version_is_that_of_the_installed_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("recsys 0.")
