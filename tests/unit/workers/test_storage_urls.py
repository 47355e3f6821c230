"""Storage behind URLs that are no local path: what is refused and how, and a store and a log in memory."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.unit.workers.models.test_model_store import save, small_model
from tests.unit.workers.trainer.test_event_log import TOPIC, events, values
from workers.errors import Fatal, SettingsError, Transient
from workers.kafka.startup import check_writable
from workers.models.store import ModelStore
from workers.runtime.redaction import hide_secrets
from workers.settings import Settings, TrainerSettings
from workers.storage import Storage, check_url, shown
from workers.trainer.event_log import EventLog


@pytest.fixture
def url() -> Iterator[str]:
    yield "memory://a-test/of storage".replace(" ", "-")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def lacking(*_: Any) -> None:
    raise ImportError("Install s3fs to access S3")


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec, "get_filesystem_class", lacking)
    with pytest.raises(Fatal, match=r"storage URL s3://…: it needs the extra `s3`: pip install 'recsys-stream\[s3\]'"):
        check_url("s3://bucket/models")
    with pytest.raises(Fatal, match="a package: gcsfs"):
        check_url("gs://bucket/models")
    with pytest.raises(SettingsError, match=r"setting trainer.log_url: storage URL s3://…: it needs the extra `s3`"):
        check_writable("setting trainer.log_url", "s3://key:hidden@bucket/log")


def test_an_unknown_kind_of_url_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Fatal, match=r"there is no such kind; use a local path, memory://, s3://"):
        Storage("s4://bucket/models")


def test_a_password_in_a_url_is_in_no_announcement_and_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown("ftp://user:secret@host:21/models?token=secret") == "ftp://user@host:21/models"
    assert shown("s3://bucket/models") == "s3://bucket/models"
    assert shown("/a/folder with: many@signs?") == "/a/folder with: many@signs?"

    def refusing(*_: Any, **__: Any) -> None:
        raise OSError("secret")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refusing)
    with pytest.raises(Fatal, match=r"^storage URL memory://user@host: OSError; correct it$"):
        Storage("memory://user:secret@host")


def test_credentials_of_settings_and_of_the_environment_are_masked_in_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    hide_secrets(Settings(trainer=TrainerSettings(model_url="ftp://user:pa55word@host/models")))
    try:
        sink = io.StringIO()
        handler, logger = logging.StreamHandler(sink), logging.getLogger("tests.storage")
        logger.addHandler(handler)
        logger.error("cannot reach %s with %s", "ftp://user:pa55word@host/models", "wJalrXUtnFEMI")
        logger.removeHandler(handler)
        assert sink.getvalue() == "cannot reach ftp://user:********@host/models with ********\n"
    finally:
        monkeypatch.undo()
        hide_secrets(Settings())


def test_a_model_store_promotes_rolls_back_and_prunes_in_memory(url: str) -> None:
    store = ModelStore(url)
    for _ in range(3):
        store.promote("ials", save(store).version)
    assert store.kinds() == ["ials"] and store.champion("ials") == "ials-000003"
    assert store.rollback("ials") == "ials-000002"
    store.storage.write("ials/checkpoint/checkpoint.json", b"{}")
    assert store.prune("ials", keep=1) == ["ials-000001"]
    assert ModelStore(url).versions("ials") == ["ials-000002", "ials-000003"]
    assert store.storage.names("ials/checkpoint") == []
    assert (ModelStore(url).load("ials", "ials-000002").item_vectors == small_model().item_vectors).all()


def test_a_version_whose_manifest_was_not_written_does_not_exist(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store has no renaming: the manifest, which is written last, finishes a version."""
    store, written = ModelStore(url), list[str]()
    pipe = MemoryFileSystem.pipe_file

    def failing(self: MemoryFileSystem, path: str, value: bytes, **more: Any) -> Any:
        written.append(path.rsplit("/", 1)[-1])
        if written[-1] == "manifest.json":
            raise ConnectionError("gone")
        return pipe(self, path, value, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", failing)
        patch.setattr(Storage, "remove", lambda *_: None)  # the process is gone too
        with pytest.raises(Transient):
            save(store)
    assert written == ["claim", "model.safetensors", "items.json", "manifest.json"]
    assert ModelStore(url).versions("ials") == []
    assert save(store).version == "ials-000002"


def test_a_log_merges_verifies_and_sets_aside_in_memory(url: str) -> None:
    log = EventLog(url, TOPIC, segment_events=10)
    log.append(0, 0, 2, events([0, 1, 2]))
    log.append(0, 3, 5, events([3, 4, 5]))
    assert len(log.segments()) == 1, "merged"
    log.append(1, 0, 0, pa.Table.from_batches([], events([0]).schema))
    log.storage.write(log.segments(0)[0].name, b"torn")
    assert [segment.partition for segment in EventLog(url, TOPIC).verify()] == [0]
    assert log.storage.names("broken") != []
    log.append(0, 0, 1, events([0, 1]))
    assert values(EventLog(url, TOPIC)) == [0, 1]


def test_what_a_storage_package_raises_is_tried_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_credentials(*_: Any, **__: Any) -> None:
        raise RuntimeError("no credentials for user:secret")

    storage = Storage(url)
    monkeypatch.setattr(MemoryFileSystem, "info", without_credentials)
    with pytest.raises(Transient, match=r"^cannot read a: RuntimeError; check the URL, the network and the credentials$"):
        storage.read("a", 10)
