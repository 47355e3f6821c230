"""Importing an entry point loads only the libraries that it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("workers.client", ["torch", "numba", "faust", "aiokafka", "redis", "scipy"]),
        ("workers.trainer.child", ["redis", "aiokafka", "kafka", "faust"]),
    ],
)
def test_an_import_loads_no_library_that_it_does_not_need(module: str, without: list[str]) -> None:
    program = f"import sys, {module}\nprint(sorted(set({without!r}) & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"
