"""Each of the trainer's fault scenarios once, on the stack of this test run."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

import tests.fault.trainer_scenarios  # noqa: F401  registers them
from tests.fault.registry import SCENARIOS, LaneName, Need

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]

NAMES = (
    "log_disk_full",
    "model_disk_full",
    "trainer_killed",
    "two_trainers",
    "model_corrupt",
    "segment_corrupt",
    "trainer_topic_recreated",
)


class StackLane:
    """The lane of the test run's own stack."""

    def __init__(self, stack: Any) -> None:
        self.name: LaneName = "kafka" if stack.kafka is not None else "embedded"
        self.bootstrap_servers: str = stack.bootstrap_servers
        self.redis_url: str = stack.redis_url

    def can(self, need: Need) -> bool:
        return {"root": os.geteuid() == 0, "kafka": self.name == "kafka"}.get(need, False)


@pytest.mark.parametrize("name", NAMES)
async def test_after_the_fault_log_store_topic_and_worker_say_the_same(stack: Any, tmp_path: Path, name: str) -> None:
    done = await SCENARIOS[name].run(StackLane(stack), random.Random(f"trainer {name}"), tmp_path)
    assert done.differences == []
    assert done.faults > 0 and done.events > 0
