"""The core knows arrays and the wire knows bytes: neither knows Kafka, Redis, a clock, the environment, or the shell."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WORLD = {"aiokafka", "kafka", "faust", "mode", "redis", "hiredis", "os", "time", "socket", "asyncio", "subprocess", "threading", "fsspec"}
FORBIDDEN = {
    "recsys": WORLD | {"workers", "schemas", "benchmarks", "tests", "pydantic_settings"},
    "schemas": WORLD | {"workers", "recsys", "benchmarks", "tests", "pydantic_settings", "torch", "numpy"},
}
LOADED = {"aiokafka", "kafka", "faust", "redis", "workers", "pydantic_settings"}
CLOCKS = {"now", "today", "utcnow", "fromtimestamp", "getenv", "environ", "time", "time_ns", "monotonic", "perf_counter"}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@pytest.fixture(autouse=True, scope="module")
def parsed_modules_are_forgotten() -> Iterator[None]:
    """Free the nodes afterwards: every later garbage collection of this process would take longer."""
    yield
    parsed.cache_clear()


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_no_module_imports_the_world(package: str) -> None:
    assert len(modules(package)) > 5
    found = {str(path.relative_to(ROOT)): imported(parsed(path)) & FORBIDDEN[package] for path in modules(package)}
    assert not {path: names for path, names in found.items() if names and not path.endswith("__main__.py")}


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_no_module_asks_for_the_time_or_the_environment(package: str) -> None:
    for path in modules(package):
        called = {
            node.func.attr
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        assert not called & CLOCKS, f"{path.name} calls {called & CLOCKS}"


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_importing_every_module_loads_nothing_of_the_world(package: str) -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules(package)]
    program = f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert package in loaded
    assert not loaded & (LOADED | ({"recsys", "torch"} if package == "schemas" else {"schemas"}))
