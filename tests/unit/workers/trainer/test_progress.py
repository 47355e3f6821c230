"""What a training says on the way, and what becomes of it in metrics."""

from __future__ import annotations

import asyncio

import pytest

from recsys.models.training import Epoch, go_on, within
from workers.runtime.metrics import TrainerMetrics
from workers.trainer import progress
from workers.trainer.job import _log_lines
from workers.trainer.progress import MARK, TrainingProgress, reporter


def test_epochs_left_and_pace_are_said_for_people_and_for_metrics(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s[0])
    report = within(100.0, lambda: now_s[0], reporter(3_600))
    for number in (3, 4):  # it went on after two of ten epochs
        now_s[0] += 30
        assert go_on(report, number / 10, f"sasrec: epoch {number}, loss 2.000", Epoch("sasrec", number, 10, 2.0, 600 * (number - 2)))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == " 40 % sasrec: epoch 4, loss 2.000; of 10 epochs, 20 examples/s, at most 3.0 min left"
    said = TrainingProgress.model_validate_json(lines[-2].removeprefix(f"{MARK} "))
    assert (said.epochs_done, said.epochs_left, said.loss) == (4, 6, 2.0)
    assert (said.examples_per_s, said.remaining_s) == pytest.approx((20.0, 180.0))


async def test_lines_of_progress_reach_the_metrics_and_broken_ones_do_nothing() -> None:
    metrics, seen = TrainerMetrics(), list[TrainingProgress]()
    stream = asyncio.StreamReader()
    good = TrainingProgress(kind="sasrec", epochs_done=4, epochs_left=6, loss=2.0, examples_per_s=20.0, remaining_s=180.0)
    stream.feed_data(f"{MARK} {good.model_dump_json()}\n{MARK} nonsense\n{MARK} {{}}\n".encode())
    stream.feed_eof()
    await _log_lines(stream, seen.append)
    assert seen == [good]
    metrics.note_training("sasrec", done=4, left=6, loss=2.0, per_s=20.0, remaining_s=180.0)
    sample = metrics.registry.get_sample_value
    assert sample("recsys_training_epochs", {"kind": "sasrec", "epochs": "left"}) == 6
    assert sample("recsys_training_remaining_seconds", {"kind": "sasrec"}) == 180
    metrics.clear_training()
    assert sample("recsys_training_loss", {"kind": "sasrec"}) is None
