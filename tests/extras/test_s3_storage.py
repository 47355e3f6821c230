"""Event log, model store and checkpoints on a local server that speaks S3, which needs the extra `s3` and moto."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import numpy as np
import pytest
import torch
from moto.server import ThreadedMotoServer

from recsys.models.checkpoint import Checkpoint
from tests.unit.workers.models.test_model_store import save, small_model
from tests.unit.workers.trainer.test_event_log import TOPIC, events, values
from workers.errors import Transient
from workers.models.checkpoint_header import unfinished
from workers.models.checkpoints import RoundKey, StoredCheckpoints
from workers.models.store import ModelStore
from workers.storage import NotOurFile, Storage
from workers.trainer.event_log import EventLog


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture(scope="module")
def bucket(server: str) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        given = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "ENDPOINT_URL": server, "DEFAULT_REGION": "us-east-1"}
        for name, value in given.items():
            patch.setenv(f"AWS_{name}", value)
        boto3.client("s3").create_bucket(Bucket="recsys")
        yield "s3://recsys"


def test_files_are_whole_bounded_and_listed(bucket: str) -> None:
    storage, other = Storage(f"{bucket}/files"), Storage(f"{bucket}/files")
    assert storage.names() == [] and not storage.exists("a/b")
    storage.write("a/b", b"first")
    assert other.read("a/b", 10) == b"first"
    storage.write("a/b", b"second")
    storage.write("a/empty", b"")
    assert other.read("a/b", 10) == b"second" and other.read("a/empty", 10) == b""
    assert other.names() == ["a"] and other.names("a") == ["b", "empty"], "what others have written since is listed"
    with pytest.raises(NotOurFile):
        other.read("a/b", 3)
    with pytest.raises(FileNotFoundError):
        other.read("a/c", 3)
    assert storage.claim("a/version") and not other.claim("a/version")
    storage.set_aside("a/b", "broken/b")
    assert not other.exists("a/b") and other.read("broken/b", 10) == b"second"
    storage.remove("a")
    storage.remove("a")
    assert other.names("a") == []


def test_a_bucket_that_does_not_exist_is_not_made(bucket: str) -> None:
    with pytest.raises((Transient, FileNotFoundError)):
        Storage("s3://another/folder").write("a", b"x")
    assert [found["Name"] for found in boto3.client("s3").list_buckets()["Buckets"]] == ["recsys"]


def test_the_model_store_works_on_s3(bucket: str) -> None:
    store = ModelStore(f"{bucket}/models")
    for _ in range(3):
        store.promote("ials", save(store).version)
    assert store.rollback("ials") == "ials-000002"
    assert store.prune("ials", keep=1) == ["ials-000001"]
    other = ModelStore(f"{bucket}/models")
    assert other.versions("ials") == ["ials-000002", "ials-000003"] and other.champion("ials") == "ials-000002"
    assert np.array_equal(other.load("ials", "ials-000002").item_vectors, small_model().item_vectors)
    assert other.reference("ials", "ials-000002").manifest_url == f"{bucket}/models/ials/ials-000002/manifest.json"


def test_the_event_log_works_on_s3(bucket: str) -> None:
    log = EventLog(f"{bucket}/log", TOPIC, segment_events=10)
    log.append(0, 0, 2, events([0, 1, 2]))
    log.append(0, 3, 5, events([3, 4, 5]))
    other = EventLog(f"{bucket}/log", TOPIC)
    assert len(other.segments()) == 1 and values(other) == [0, 1, 2, 3, 4, 5] and other.verify() == []


def test_checkpoints_work_on_s3(bucket: str) -> None:
    store, said = ModelStore(f"{bucket}/models"), list[str]()
    kept = StoredCheckpoints(store, "sasrec", RoundKey("job", {0: 7}), 0.0, said.append)
    for step in range(2):
        kept.save(Checkpoint("training", {"a": torch.full((3,), float(step))}, {"step": step}))
    found = StoredCheckpoints(ModelStore(f"{bucket}/models"), "sasrec", RoundKey("job", {0: 7}), 0.0, said.append).newest()
    assert found is not None and found.values == {"step": 1} and float(found.tensors["a"][0]) == 1
    assert len(store.storage.names("sasrec/checkpoint")) == 2 and len(unfinished(store, ["sasrec"])) == 1
