"""A round that was stopped goes on: from its checkpoint, on the part of the log that it had, to the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.models.checkpoint import Checkpoint
from tests.unit.workers.trainer.test_training_round import FIRST, append, job
from workers.models import checkpoint_header, checkpoints
from workers.models.checkpoint_header import unfinished
from workers.models.checkpoints import RoundKey, StoredCheckpoints
from workers.models.store import ModelStore
from workers.trainer.progress import TrainingProgress
from workers.trainer.training_job import TrainingJob
from workers.trainer.training_round import run_job

SASREC = {"sasrec": {"factors": 8, "window": 8, "blocks": 1, "max_epochs": 3, "patience": 3, "learning_rate": 1e-2}}


class Stopped(BaseException):
    """Ends a round at once, as SIGTERM does."""


def sasrec_job(folder: Path, **trainer: Any) -> TrainingJob:
    return job(folder, **({"kinds": ("sasrec",), "options": SASREC, "checkpoint_s": 1e-9} | trainer))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkpoints, "SHARE_OF_TIME", 1e9)
    append(tmp_path, 0, FIRST)
    return tmp_path


def stop_after(n_saved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the round right after so many checkpoints."""
    save, left = StoredCheckpoints.save, [n_saved]

    def stopping(self: StoredCheckpoints, checkpoint: Checkpoint) -> None:
        save(self, checkpoint)
        left[0] -= 1
        if not left[0]:
            raise Stopped

    monkeypatch.setattr(StoredCheckpoints, "save", stopping)


def test_a_stopped_round_goes_on_to_the_model_it_would_have_made(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = tmp_path / "whole"
    append(elsewhere, 0, FIRST)
    run_job(sasrec_job(elsewhere))
    expected = ModelStore(str(elsewhere / "models")).load("sasrec", "sasrec-000001").tensors()
    with pytest.MonkeyPatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(Stopped):
            run_job(sasrec_job(folder))
    store = ModelStore(str(folder / "models"))
    assert len(unfinished(store, ["sasrec"])) == 1 and not store.versions("sasrec")
    append(folder, FIRST, 2_400)  # the log goes on while no trainer runs
    capsys.readouterr()
    run_job(sasrec_job(folder))
    said = capsys.readouterr().err
    assert f"this one goes on with its {FIRST:,} events" in said and "sasrec: there is a checkpoint" in said
    assert store.manifest("sasrec", "sasrec-000001")[0].trained_on.next_offsets == {0: FIRST}
    found = store.load("sasrec", "sasrec-000001").tensors()
    assert all(np.array_equal(found[name], tensor) for name, tensor in expected.items())
    assert store.storage.names("sasrec/checkpoint") == [], "a settled version needs no checkpoint"
    run_job(sasrec_job(folder))
    assert store.manifest("sasrec", "sasrec-000002")[0].trained_on.next_offsets == {0: 2_400}


def test_a_round_with_other_settings_starts_over_on_the_whole_log(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(Stopped):
            run_job(sasrec_job(folder))
    append(folder, FIRST, 2_400)
    run_job(sasrec_job(folder, seed=1))
    assert "sasrec: training starts over, the checkpoint is not used: configuration or data differ" in capsys.readouterr().err
    assert ModelStore(str(folder / "models")).manifest("sasrec", "sasrec-000001")[0].trained_on.next_offsets == {0: 2_400}


def test_a_training_that_fails_leaves_no_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = StoredCheckpoints.save

    def failing(self: StoredCheckpoints, checkpoint: Checkpoint) -> None:
        save(self, checkpoint)
        raise ValueError("broken")

    monkeypatch.setattr(StoredCheckpoints, "save", failing)
    assert run_job(sasrec_job(folder))[0].action == "failed"
    assert ModelStore(str(folder / "models")).storage.names("sasrec/checkpoint") == []


def test_without_checkpoint_s_none_is_made_or_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(1, monkeypatch)
    assert run_job(sasrec_job(folder, checkpoint_s=0))[0].version == "sasrec-000001"


def kept(folder: Path, said: list[str], every_s: float = 0.0) -> StoredCheckpoints:
    return StoredCheckpoints(ModelStore(str(folder)), "sasrec", RoundKey("job", {0: 7}), every_s, said.append)


def checkpoint() -> Checkpoint:
    return Checkpoint("training", {"a": torch.arange(6.0).view(2, 3)}, {"random": 2**127 + 1, "loss": 0.1 + 0.2, "best": None})


def test_a_stored_checkpoint_is_what_was_saved(tmp_path: Path) -> None:
    said = list[str]()
    for _ in range(2):
        kept(tmp_path, said).save(checkpoint())
    found = kept(tmp_path, said).newest()
    assert found is not None and found.training == "training" and found.values == checkpoint().values
    assert torch.equal(found.tensors["a"], checkpoint().tensors["a"])
    assert len(list((tmp_path / "sasrec/checkpoint").glob("*.safetensors"))) == 1, "the one before is gone"
    assert unfinished(ModelStore(str(tmp_path)), ["ials", "sasrec"])[0].next_offsets == {0: 7}


@pytest.mark.parametrize("damage", ["tensors", "header", "layout", "missing", "old"])
def test_a_checkpoint_that_cannot_be_used_is_removed_with_a_line(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()
    kept(tmp_path, said).save(checkpoint())
    folder = tmp_path / "sasrec/checkpoint"
    header = folder / "checkpoint.json"
    if damage == "tensors":
        next(folder.glob("*.safetensors")).write_bytes(b"torn")
    elif damage == "header":
        header.write_text("{")
    elif damage == "layout":
        header.write_text(json.dumps(json.loads(header.read_text()) | {"layout": 2}))
    elif damage == "missing":
        next(folder.glob("*.safetensors")).unlink()
    else:
        for module in (checkpoints, checkpoint_header):
            monkeypatch.setattr(module, "MAX_AGE_S", -1.0)
        assert unfinished(ModelStore(str(tmp_path)), ["sasrec"]) == []
    assert kept(tmp_path, said).newest() is None
    if damage != "missing":
        assert len(said) == 1 and "sasrec: training starts over" in said[0]
        assert not header.exists()


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(tmp_path: Path) -> None:
    said = list[str]()
    (tmp_path / "sasrec").write_text("a file where the folder should be")
    kept(tmp_path, said).save(checkpoint())
    assert len(said) == 1 and said[0].startswith("WARNING sasrec: no checkpoint: ")


def test_checkpoints_are_rarer_where_they_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now_s[0])
    written = kept(tmp_path, [], every_s=10.0)
    assert not written.due()
    now_s[0] += 10
    assert written.due()
    write = written._storage.write

    def slowly(name: str, content: bytes) -> str:
        now_s[0] += 2
        return write(name, content)

    monkeypatch.setattr(written._storage, "write", slowly)
    written.save(checkpoint())
    now_s[0] += 70
    assert not written.due(), "two writes of two seconds are worth eighty"
    now_s[0] += 11
    assert written.due()


def test_progress_is_checked_where_it_arrives() -> None:
    line = TrainingProgress(kind="sasrec", epochs_done=1, epochs_left=2, loss=3.5, examples_per_s=10, remaining_s=4).model_dump_json()
    assert TrainingProgress.model_validate_json(line).epochs_left == 2
    with pytest.raises(ValueError, match="kind"):
        TrainingProgress.model_validate_json(line.replace("sasrec", "a b"))
