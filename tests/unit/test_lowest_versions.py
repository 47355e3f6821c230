"""constraints-lowest.txt, which `make test-lowest` installs, has the lower bounds of pyproject.toml."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lowest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lowest", ROOT / ".ci" / "lowest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_in_step_with_the_bounds(lowest: ModuleType) -> None:
    text = lowest.CONSTRAINTS.read_text("utf-8")
    assert text == lowest.written(lowest.pins(text)), "run python .ci/lowest.py"


def test_the_pinned_versions_satisfy_every_bound(lowest: ModuleType) -> None:
    pinned = lowest.pins((ROOT / "constraints.txt").read_text("utf-8"))
    for name, least in lowest.bounds().items():
        assert Version(pinned[name]) >= Version(least), name


def test_no_dependency_has_an_upper_bound_or_none_at_all() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for text in [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]:
        assert [specifier.operator for specifier in Requirement(text).specifier] == [">="], text
