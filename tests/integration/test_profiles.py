"""Profiles on the users topic become segments, from the topic to the model store, and a newcomer's list follows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recsys.models.segments.model import SegmentsModel
from tests.unit.workers.trainer.test_segments_round import GROUPS, N_USERS, arrivals
from workers.cli.app import run
from workers.client import EventPublisher
from workers.models.store import open_model_store
from workers.settings import Settings
from workers.trainer.profiles_file import read_profiles
from workers.trainer.topic_file import save_topic


async def test_the_newest_profiles_are_read_from_the_topic(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "profiles"
    assert await save_topic(settings, settings.topics.users, path) == 0 and not read_profiles(path, ["u0"]).known.any()
    with EventPublisher(settings) as publisher:
        for country in ("no", "de"):
            publisher.publish_profile({"user_id": "u0", "categorical_attributes": {"country": country}})
        publisher.publish_profile({"user_id": "u1"})
    assert await save_topic(settings, settings.topics.users, path) == 3
    found = read_profiles(path, ["u1", "u0"])
    assert found.known.tolist() == [False, True]
    assert found.attributes[int(found.columns.keys[1, 0])].value == "de"


@pytest.mark.long
def test_segments_are_trained_on_the_users_topic(
    settings: Settings, worker_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"KINDS": ["segments"], "OPTIONS": {"segments": {"min_users": 20}}, "HOLDOUT": 0.3, "MIN_TARGETS": 100}
    for name, value in (worker_env | {f"RECSYS_TRAINER__{name}": json.dumps(value) for name, value in options.items()}).items():
        monkeypatch.setenv(name, value)
    with EventPublisher(settings) as publisher:
        for user in range(N_USERS):
            publisher.publish_profile({"user_id": f"u{user}", "categorical_attributes": {"group": str(GROUPS[user])}})
        for number, (user_id, item_id, ts_ms) in enumerate(arrivals()):
            publisher.publish(event_id=f"f{number}", user_id=user_id, item_id=item_id, type="like", event_ts_ms=ts_ms)
    assert run(["models", "train"]) == 0
    assert capsys.readouterr().out.startswith("segments-000001: promoted, NDCG@10 ")
    model = open_model_store(settings).load("segments", "segments-000001")
    assert isinstance(model, SegmentsModel) and model.scores_of("group", "1") is not None
