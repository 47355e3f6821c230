"""A round of training by torchrun, which needs no extra, but some time to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.unit.workers.trainer.test_training_round import FIRST, append
from workers.models.store import ModelStore

OPTIONS = {"factors": 8, "window": 8, "blocks": 1, "max_epochs": 4, "learning_rate": 1e-2}


def test_torchrun_makes_a_round_in_two_processes(tmp_path: Path) -> None:
    append(tmp_path, 0, FIRST)
    (tmp_path / "recsys.toml").write_text(
        f"""[trainer]
log_url = "{tmp_path}/log"
model_url = "{tmp_path}/models"
kinds = ["sasrec", "recipe"]
min_targets = 20
options = {json.dumps({"sasrec": OPTIONS}).replace(":", " =")}
"""
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "workers.trainer.one_round"]
    environment = {**os.environ, "RECSYS_CONFIG": str(tmp_path / "recsys.toml")}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert "left to the trainer, which reads the catalogue and profiles from Kafka: recipe" in ran.stderr
    assert ModelStore(str(tmp_path / "models")).champion("sasrec") == "sasrec-000001"
