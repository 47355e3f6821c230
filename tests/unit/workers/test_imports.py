"""Importing an entry point loads only the libraries that it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

CLIENT = {"numba", "redis", "scipy"}
BROKER = {"aiokafka", "kafka", "faust"}


@pytest.mark.parametrize(
    "imports",
    [
        [
            ("workers.client", CLIENT | BROKER - {"kafka"} | {"torch"}),
            ("workers.trainer.training_settings", {"torch"}),
            ("workers.trainer.app", {"torch"}),
            ("workers.stream.app", {"torch"}),
        ],
        [("workers.operations.evaluation_cases", BROKER | {"torch", "redis"})],
        [("workers.trainer.child", BROKER | {"redis"})],
    ],
    ids=lambda imports: imports[-1][0],
)
def test_an_import_loads_no_library_that_it_does_not_need(imports: list[tuple[str, set[str]]]) -> None:
    """One process imports modules one after another, those that may load least first."""
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name), print(*sys.modules)"
    command = [sys.executable, "-c", program, *(name for name, _ in imports)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for (module, without), loaded in zip(imports, printed, strict=True):
        assert module in loaded.split() and not without & set(loaded.split()), module
