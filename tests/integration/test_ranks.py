"""Processes that train one model together, by gloo: those that a training process starts, and those of torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from recsys.models.registry import MODELS
from tests.unit.recsys.models.model_cases import clustered
from tests.unit.workers.trainer.test_training_round import FIRST, append, job
from workers.trainer import one_round
from workers.trainer.ranks import LOOPBACK, Lost, together

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OPTIONS = {"factors": 8, "window": 8, "blocks": 1, "max_epochs": 4, "dropout": 0.0, "precision": "float32", "learning_rate": 1e-2}


@pytest.fixture(autouse=True)
def loopback_after_the_test_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)


@pytest.mark.long
def test_two_processes_train_what_one_does_and_listen_on_loopback_alone() -> None:
    kind, data, listening = MODELS["sasrec"], clustered(200, length=12), set[str]()
    config = kind.configure(OPTIONS)

    def look(done: float, message: str) -> bool:
        listening.update(each.laddr.ip for each in psutil.net_connections("inet") if each.pid in own() and each.status == "LISTEN")
        return True

    one = kind.train(data, config, time.monotonic)
    before = {each.laddr for each in psutil.Process().net_connections("inet")}
    with together(2) as ranks:
        several = kind.train(data, config, time.monotonic, look, ranks=ranks)
        again = kind.train(data, config, time.monotonic, None, one, ranks=ranks)
        other = MODELS["popular"].train(data, MODELS["popular"].configure({}), time.monotonic, ranks=ranks)
    np.testing.assert_allclose(several.item_vectors, one.item_vectors, atol=5e-3)
    assert np.abs(again.item_vectors - one.item_vectors).max() > 1e-3 and other.item_ids == one.item_ids
    assert listening <= {"127.0.0.1", "::1"} and len(before) == len({each.laddr for each in psutil.Process().net_connections("inet")})


def own() -> set[int]:
    """Return the ids of this process and those that it started."""
    return {os.getpid(), *(child.pid for child in psutil.Process().children())}


@pytest.mark.long
def test_a_process_that_dies_ends_the_training_with_a_reason() -> None:
    kind, data = MODELS["sasrec"], clustered(200, length=12)

    def kill(done: float, message: str) -> bool:
        for child in psutil.Process().children():
            if "workers.trainer.attend" in child.cmdline():
                child.kill()
        return True

    with together(2) as ranks:
        with pytest.raises(Lost, match=r"a process that trains with this one ended .*the next round tries again"):
            kind.train(data, kind.configure(OPTIONS), time.monotonic, kill, ranks=ranks)
        with pytest.raises(Lost):
            kind.train(data, kind.configure(OPTIONS), time.monotonic, ranks=ranks)


@pytest.mark.long
def test_a_training_process_starts_and_ends_the_others(tmp_path: Path) -> None:
    append(tmp_path, 0, FIRST)
    ordered = job(tmp_path, kinds=("sasrec",), options={"sasrec": OPTIONS}, processes=2).model_dump_json().encode()
    ran = subprocess.run([sys.executable, "-m", "workers.trainer.child"], input=ordered, capture_output=True, check=True)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["error"] is None and said["results"][0]["version"] == "sasrec-000001"
    assert b"ERROR" not in ran.stderr, ran.stderr.decode()


def test_without_torchrun_the_round_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert one_round.main() == 2 and "start it with torchrun" in capsys.readouterr().err
