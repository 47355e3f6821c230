"""A training process that is killed with SIGKILL, and the next round, which goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.workers.trainer.test_training_round import FIRST, append, job
from workers.models.checkpoint_header import unfinished
from workers.models.store import ModelStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SASREC = {"sasrec": {"factors": 8, "window": 8, "blocks": 1, "max_epochs": 30, "patience": 30}}
COMMAND = [sys.executable, "-m", "workers.trainer.child"]


@pytest.mark.long
def test_the_round_after_a_kill_goes_on_from_the_checkpoint_on_the_same_events(tmp_path: Path) -> None:
    append(tmp_path, 0, FIRST)
    ordered = job(tmp_path, kinds=("sasrec",), options=SASREC, checkpoint_s=0.05).model_dump_json().encode()
    store, deadline_s = ModelStore(str(tmp_path / "models")), time.monotonic() + 240
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        assert killed.stdin is not None
        killed.stdin.write(ordered)
        killed.stdin.close()
        while not unfinished(store, ["sasrec"]) and killed.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.01)
        killed.kill()
    assert unfinished(store, ["sasrec"]) and not store.versions("sasrec"), "killed within the training"
    append(tmp_path, FIRST, 2_400)
    again = subprocess.run(COMMAND, input=ordered, capture_output=True, check=True)
    said = again.stderr.decode()
    assert f"goes on with its {FIRST:,} events" in said and "there is a checkpoint of" in said and "starts over" not in said
    assert json.loads(again.stdout.splitlines()[-1])["results"][0]["version"] == "sasrec-000001"
    assert unfinished(store, ["sasrec"]) == []
